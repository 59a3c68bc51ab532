/** An identity provider for tests: a real HTTP server with a JWK set, and the private keys. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'

export const issuer = 'https://login.example'
export const audience = 'millrace'

export interface SigningKey {
  readonly alg: string
  readonly kid: string
  readonly privateKey: CryptoKey
  readonly jwk: JWK
}

export async function signingKey(kid: string, alg = 'ES256'): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return { alg, kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

/** A token good for an hour; `claims` change or, as undefined, remove what it says. */
export function sign(key: SigningKey, claims: JWTPayload = {}, nowMs = Date.now()) {
  const now = Math.floor(nowMs / 1000)
  const all = { iss: issuer, aud: audience, sub: 'ann', roles: ['reader'], iat: now }
  const payload = { ...all, exp: now + 3600, ...claims }
  const { alg, kid } = key
  return new SignJWT(payload).setProtectedHeader({ alg, kid }).sign(key.privateKey)
}

export class IdentityProvider {
  keys: readonly SigningKey[]
  /** Answers 500. */
  down = false
  /** How often the set was asked for. */
  asked = 0
  readonly #server = createServer((_request, response) => {
    this.asked++
    response.writeHead(this.down ? 500 : 200, { 'content-type': 'application/jwk-set+json' })
    response.end(JSON.stringify({ keys: this.keys.map(({ jwk }) => jwk) }))
  })

  constructor(keys: readonly SigningKey[]) {
    this.keys = keys
  }

  /** Resolves with the address of the key set. */
  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/keys`
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}
