/** The server: what `cli/` puts together. */
export { consumersOf, type EventFlow, producersOf, type TopicUse } from './asyncapi.ts'
export {
  type ApiKey,
  type AuthSettings,
  assertBindable,
  isLoopback,
  noAuth,
  parseApiKeys,
} from './auth.ts'
export type { DeadLetters } from './dead-letter-routes.ts'
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
export type { Readiness } from './operation-routes.ts'
export { createServer, type ServedRoute, type Server, type ServerOptions } from './server.ts'
export {
  createTokenVerifier,
  defaultRolesClaim,
  type TokenSettings,
  type TokenVerifier,
  tokenAlgorithms,
} from './tokens.ts'
export type { RequestSpan, RequestTracing, TracedRequest } from './tracing.ts'
