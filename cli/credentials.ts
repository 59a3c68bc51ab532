/** Who may use the service: the settings of keys, tokens and origins, put together. */
import type { Logger } from 'pino'
import { type AuthSettings, createTokenVerifier, KeySet } from '../api/index.ts'
import { effects } from './effects.ts'
import type { Settings } from './settings.ts'

type CredentialSettings = Pick<
  Settings,
  'apiKeys' | 'allowedOrigins' | 'jwksUrl' | 'jwtIssuer' | 'jwtAudience' | 'jwtRolesClaim'
>

/** Larger answers are no key sets. */
const bytesMax = 1024 * 1024

export function credentials(settings: CredentialSettings, logger: Logger): AuthSettings {
  const { apiKeys: keys, allowedOrigins, jwksUrl } = settings
  if (jwksUrl === undefined) return { keys, allowedOrigins }
  if (settings.jwtIssuer === undefined || settings.jwtAudience === undefined) {
    logger.warn('tokens for other services are accepted: set JWT_ISSUER and JWT_AUDIENCE')
  }
  const { clock, schedule } = effects
  const keySet = new KeySet({
    fetch: signal => fetchKeySet(jwksUrl, signal),
    clock,
    schedule,
    onError: error => logger.error({ err: error }, 'the key set of JWKS_URL could not be fetched'),
  })
  // A wrong address shows in the log at once, not with the first request.
  void keySet.refresh()
  const tokens = createTokenVerifier({
    keySet,
    clock,
    issuer: settings.jwtIssuer,
    audience: settings.jwtAudience,
    rolesClaim: settings.jwtRolesClaim,
  })
  return { keys, allowedOrigins, tokens }
}

async function fetchKeySet(url: string, signal: AbortSignal): Promise<string> {
  const headers = { accept: 'application/jwk-set+json, application/json' }
  // A redirect could lead to another host's keys.
  const response = await fetch(url, { signal, redirect: 'error', headers })
  if (!response.ok || response.body === null) {
    throw new Error(`the answer has status ${response.status}`)
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body) {
    bytes += chunk.length
    if (bytes > bytesMax) throw new Error(`the answer is over ${bytesMax} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}
