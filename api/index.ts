/** The server: what `cli/` puts together. */
export type { EventFlow } from './asyncapi.ts'
export {
  type ApiKey,
  type AuthSettings,
  assertBindable,
  isLoopback,
  noAuth,
  parseApiKeys,
} from './auth.ts'
export {
  type AppendEvents,
  createIngest,
  type Ingest,
  type IngestPorts,
  type IngestResult,
} from './ingest.ts'
export {
  defaultKeySetTimes,
  type FetchKeySet,
  KeySet,
  type KeySetOptions,
  type KeySetTimes,
} from './key-set.ts'
export { defaultLimits, type Limits, type Schedule } from './limits.ts'
export type { DeadLetterPage, DeadLetters, Readiness } from './operation-routes.ts'
export { createServer, type ServedRoute, type Server, type ServerOptions } from './server.ts'
export {
  createTokenVerifier,
  defaultRolesClaim,
  type TokenSettings,
  type TokenVerifier,
  tokenAlgorithms,
} from './tokens.ts'
