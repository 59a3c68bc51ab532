/**
 * Credentials for the library's connection, with sessions that end handled here: the library
 * authenticates again on a connection in use, among whose requests a broker then refuses all but
 * that. So a connection whose session has an end is given up before it, and another one opened.
 */
import {
  type Connection,
  type SASLOptions,
  saslOAuthBearer,
  saslPlain,
  saslScramSha,
} from '@platformatic/kafka'

/** A secret, or what gives it when a connection is opened. */
export type Secret = string | (() => string | Promise<string>)

export type SaslOptions =
  | {
      readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
      readonly username: Secret
      readonly password: Secret
    }
  | { readonly mechanism: 'OAUTHBEARER'; readonly token: Secret }

type Authenticator = NonNullable<SASLOptions['authenticate']>
type Answer = Parameters<Authenticator>[6]

/** `onSession` gets the session's length, if it has an end, before the connection is used. */
export function librarySasl(
  sasl: SaslOptions,
  onSession: (lifetimeMs: number) => void,
): SASLOptions {
  const authenticate: Authenticator = (...given) => {
    const [, connection, api] = given
    const answer: Answer = (error, response) => {
      const callback = given[6]
      if (error !== null || response === undefined) return callback(error, response)
      const { sessionLifetimeMs } = response
      if (sessionLifetimeMs > 0n) onSession(Number(sessionLifetimeMs))
      // Without an end the library leaves the connection alone.
      callback(null, { ...response, sessionLifetimeMs: 0n })
    }
    exchange(sasl, { connection, api, answer })
  }
  return { ...sasl, authenticate }
}

interface Exchange {
  readonly connection: Connection
  readonly api: Parameters<Authenticator>[2]
  readonly answer: Answer
}

function exchange(sasl: SaslOptions, { connection, api, answer }: Exchange): void {
  if (sasl.mechanism === 'OAUTHBEARER') {
    saslOAuthBearer.authenticate(api, connection, sasl.token, {}, answer)
    return
  }
  const { mechanism, username, password } = sasl
  if (mechanism === 'PLAIN') saslPlain.authenticate(api, connection, username, password, answer)
  else {
    const algorithm = mechanism === 'SCRAM-SHA-256' ? 'SHA-256' : 'SHA-512'
    const { defaultCrypto } = saslScramSha
    saslScramSha.authenticate(api, connection, algorithm, username, password, defaultCrypto, answer)
  }
}
