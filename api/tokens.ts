/**
 * Bearer tokens: JWTs that an identity provider signed. What is believed is pinned here and not
 * taken from the token: algorithms, issuer, audience, and which claim holds the roles.
 */
import { errors, type JWTPayload, jwtVerify } from 'jose'
import { MillraceError } from '../streams/errors.ts'
import type { Principal, Role } from './auth.ts'
import { apiError } from './errors.ts'
import type { KeySet } from './key-set.ts'

/** Asymmetric only: with a shared secret, whoever can check a token can make one. */
export const tokenAlgorithms = ['RS256', 'ES256', 'EdDSA'] as const

export interface TokenSettings {
  readonly keySet: KeySet
  /** Epoch ms. */
  readonly clock: () => number
  /** `iss` must be this; unless given it is not looked at. */
  readonly issuer?: string | undefined
  /** `aud` must be or hold this; unless given it is not looked at. */
  readonly audience?: string | undefined
  /** Claim with the roles, dots going into objects: `roles`, `realm_access.roles`. */
  readonly rolesClaim?: string | undefined
}

export interface TokenVerifier {
  /** Throws TOKEN_INVALID, TOKEN_EXPIRED or KEYS_UNAVAILABLE. */
  verify(token: string): Promise<Principal>
  /** Changes when keys have been withdrawn or added. */
  generation(): number
}

/** How far the provider's clock may be ahead of ours. An end is an end: it has no tolerance. */
export const clockToleranceMs = 30_000
export const defaultRolesClaim = 'roles'
const tokenCharactersMax = 8192
const subjectCharactersMax = 256

const rolesByRank: readonly Role[] = ['admin', 'writer', 'reader']

export function looksLikeToken(secret: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]*$/.test(secret)
}

export function createTokenVerifier(settings: TokenSettings): TokenVerifier {
  return {
    verify: token => verify(token, settings),
    generation: () => settings.keySet.generation(),
  }
}

async function verify(token: string, settings: TokenSettings): Promise<Principal> {
  if (token.length > tokenCharactersMax) throw invalid(`it is over ${tokenCharactersMax} bytes`)
  const nowMs = settings.clock()
  const payload = await claimsOf(token, nowMs, settings)
  const expiresAtMs = payload.exp! * 1000
  if (expiresAtMs <= nowMs) throw apiError('TOKEN_EXPIRED')
  const name = String(payload.sub).slice(0, subjectCharactersMax)
  return { name, role: roleOf(payload, settings.rolesClaim), expiresAtMs }
}

async function claimsOf(token: string, nowMs: number, settings: TokenSettings) {
  const { keySet, issuer, audience } = settings
  try {
    const { payload } = await jwtVerify(token, keySet.find, {
      algorithms: [...tokenAlgorithms],
      currentDate: new Date(nowMs),
      clockTolerance: clockToleranceMs / 1000,
      requiredClaims: ['exp', 'sub'],
      ...(issuer === undefined ? {} : { issuer }),
      ...(audience === undefined ? {} : { audience }),
    })
    return payload
  } catch (error) {
    throw refusalOf(error)
  }
}

/** The highest role named; other names are other services' business. */
function roleOf(payload: JWTPayload, claim = defaultRolesClaim): Role | undefined {
  let value: unknown = payload
  for (const part of claim.split('.')) {
    const isObject = typeof value === 'object' && value !== null && Object.hasOwn(value, part)
    value = isObject ? (value as Record<string, unknown>)[part] : undefined
  }
  const named: unknown[] = typeof value === 'string' ? value.split(' ') : [value].flat()
  return rolesByRank.find(role => named.includes(role))
}

/**
 * Whoever has no genuine token learns nothing: unknown key, other algorithm and wrong signature
 * read alike. The holder of a genuine one is told what is wrong with it.
 */
function refusalOf(error: unknown): unknown {
  if (error instanceof MillraceError) return error
  if (error instanceof errors.JWTExpired) return apiError('TOKEN_EXPIRED')
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim } = error
    return invalid(claim === 'nbf' ? 'its time has not come' : `its claim ${claim} does not fit`)
  }
  return invalid('it is not signed by a key that is accepted here')
}

function invalid(reason: string) {
  return apiError('TOKEN_INVALID', { reason })
}
