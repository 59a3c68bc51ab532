/** Who may do what: API keys, roles, allowed origins, and which addresses may be bound. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import { apiError } from './errors.ts'

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
  readonly role: Role
}

export interface AuthSettings {
  /** Empty: no credentials are configured, and every caller has all roles. */
  readonly keys: readonly ApiKey[]
  /** Origins (`https://host:port`) of other sites whose pages may open sockets. */
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

/** The key's owner. Takes the same time whichever key matches, or none. */
export function identify(auth: AuthSettings, secret: string | undefined): Principal | undefined {
  if (auth.keys.length === 0) return { name: 'local', role: 'admin' }
  if (secret === undefined) return undefined
  const digest = digestOf(secret)
  let found: ApiKey | undefined
  for (const key of auth.keys) {
    if (timingSafeEqual(key.digest, digest)) found = key
  }
  return found === undefined ? undefined : { name: found.name, role: found.role }
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
  return roles.indexOf(principal.role) >= roles.indexOf(role)
}

/** Refuses an address that others can reach while every caller has all roles. */
export function assertBindable(host: string, auth: AuthSettings): void {
  if (auth.keys.length === 0 && !isLoopback(host)) throw apiError('BIND_REFUSED', { host })
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
  if (auth.keys.length > 0 || host === undefined) return true
  const name = /^(\[[^\]]*\]|[^:]*)(:\d+)?$/.exec(host)?.[1] ?? ''
  return isLoopback(name) || auth.allowedOrigins.some(origin => origin.endsWith(`//${host}`))
}
