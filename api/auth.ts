/** Who may do what: API keys and tokens, roles, origins, and which addresses may be bound. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import { apiError } from './errors.ts'
import { looksLikeToken, type TokenVerifier } from './tokens.ts'

/** Each role may do what those before it may. */
export type Role = 'reader' | 'writer' | 'admin'

const roles: readonly Role[] = ['reader', 'writer', 'admin']

export interface ApiKey {
  readonly name: string
  readonly role: Role
  /** SHA-256 of the secret: secrets themselves are not kept. */
  readonly digest: Buffer
}

export interface Principal {
  readonly name: string
  /** Undefined: known, and allowed nothing. */
  readonly role: Role | undefined
  /** When its credentials end, epoch ms; absent where they do not. */
  readonly expiresAtMs?: number
}

/** Without keys and tokens no credentials are configured, and every caller has all roles. */
export interface AuthSettings {
  readonly keys: readonly ApiKey[]
  readonly tokens?: TokenVerifier | undefined
  /** What the other instances of the group show. */
  readonly peers?: ApiKey
  /** Origins (`https://host:port`) of other sites whose pages may open sockets and send changes. */
  readonly allowedOrigins: readonly string[]
}

export const noAuth: AuthSettings = { keys: [], allowedOrigins: [] }

/** Parses `API_KEYS`: `name:role:secret`, comma separated; a secret may hold colons. */
export function parseApiKeys(text: string): ApiKey[] {
  const keys: ApiKey[] = []
  for (const [index, part] of text.split(',').entries()) {
    if (part.trim() === '') continue
    const [name = '', role = '', ...rest] = part.trim().split(':')
    const secret = rest.join(':')
    const nth = `key ${index + 1}`
    if (name === '' || secret === '') {
      throw apiError('API_KEYS_INVALID', { reason: `${nth} lacks a name or a secret` })
    }
    if (!roles.includes(role as Role)) {
      throw apiError('API_KEYS_INVALID', {
        reason: `the role of ${nth} is not ${roles.join(', ')}`,
      })
    }
    if (keys.some(key => key.name === name)) {
      throw apiError('API_KEYS_INVALID', { reason: `the name of ${nth} is taken` })
    }
    keys.push({ name, role: role as Role, digest: digestOf(secret) })
  }
  return keys
}

function digestOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

export function hasCredentials(auth: AuthSettings): boolean {
  return auth.keys.length > 0 || auth.tokens !== undefined
}

/**
 * Whom a secret belongs to, be it an API key or a token. Throws UNAUTHENTICATED, and what
 * `TokenVerifier.verify` throws.
 */
export async function identify(auth: AuthSettings, secret: string | undefined): Promise<Principal> {
  if (!hasCredentials(auth)) return { name: 'local', role: 'admin' }
  if (secret === undefined) throw apiError('UNAUTHENTICATED')
  const owner = ownerOf(auth.peers === undefined ? auth.keys : [...auth.keys, auth.peers], secret)
  if (owner !== undefined) return { name: owner.name, role: owner.role }
  if (auth.tokens === undefined || !looksLikeToken(secret)) throw apiError('UNAUTHENTICATED')
  return auth.tokens.verify(secret)
}

/** Takes the same time whichever key matches, or none. */
function ownerOf(keys: readonly ApiKey[], secret: string): ApiKey | undefined {
  const digest = digestOf(secret)
  let found: ApiKey | undefined
  for (const key of keys) {
    if (timingSafeEqual(key.digest, digest)) found = key
  }
  return found
}

/** The secret is that of another instance of the group. */
export function isPeer({ peers }: AuthSettings, secret: string | undefined): boolean {
  return peers !== undefined && secret !== undefined && ownerOf([peers], secret) !== undefined
}

/** The secret in `Authorization: Bearer` or `X-API-Key`. */
export function secretOf(headers: {
  readonly authorization?: string | undefined
  readonly 'x-api-key'?: string | string[] | undefined
}): string | undefined {
  const bearer = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')
  if (bearer !== null) return bearer[1]
  const key = headers['x-api-key']
  return typeof key === 'string' ? key : undefined
}

export function mayAct(principal: Principal, role: Role): boolean {
  return principal.role !== undefined && roles.indexOf(principal.role) >= roles.indexOf(role)
}

/** Refuses an address that others can reach while every caller has all roles. */
export function assertBindable(host: string, auth: AuthSettings): void {
  if (!hasCredentials(auth) && !isLoopback(host)) throw apiError('BIND_REFUSED', { host })
}

/** A host name or address, without port, that only this machine reaches. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  if (bare === 'localhost' || bare.endsWith('.localhost')) return true
  if (isIP(bare) === 4) return bare.startsWith('127.')
  return bare === '::1' || /^::ffff:127\./.test(bare)
}

/**
 * A page of another site can make a browser connect here: only our own origin and the allowed
 * ones may. Callers that are no browser send no origin; they hold the key or are local.
 */
export function originAllowed(
  origin: string | undefined,
  host: string | undefined,
  auth: AuthSettings,
): boolean {
  if (origin === undefined) return true
  if (auth.allowedOrigins.includes(origin)) return true
  try {
    const url = new URL(origin)
    return url.protocol.startsWith('http') && url.host === host?.toLowerCase()
  } catch {
    return false
  }
}

/** Without credentials the host name must be local too: a foreign name is DNS rebinding. */
export function hostAllowed(host: string | undefined, auth: AuthSettings): boolean {
  if (hasCredentials(auth) || host === undefined) return true
  const name = /^(\[[^\]]*\]|[^:]*)(:\d+)?$/.exec(host)?.[1] ?? ''
  return isLoopback(name) || auth.allowedOrigins.some(origin => origin.endsWith(`//${host}`))
}
