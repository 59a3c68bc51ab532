/** Live feeds and who holds them: how many a user may have, and when his credentials end. */
import { MillraceError } from '../streams/errors.ts'
import { type AuthSettings, hasCredentials, identify, type Principal } from './auth.ts'
import type { ServerContext } from './context.ts'
import { apiError } from './errors.ts'

/** Live sockets and event streams by user; those of nobody in particular are not counted. */
export class FeedHolders {
  private readonly held = new Map<string, number>()
  private readonly max: number

  constructor(max: number) {
    this.max = max
  }

  /** Counts a feed until the result is called. Throws FEEDS_EXCEEDED. */
  admit(auth: AuthSettings, { name }: Principal): () => void {
    if (!hasCredentials(auth)) return () => {}
    const held = this.held.get(name) ?? 0
    if (held >= this.max) throw apiError('FEEDS_EXCEEDED', { max: this.max })
    this.held.set(name, held + 1)
    let left = false
    return () => {
      if (left) return
      left = true
      const now = this.held.get(name)! - 1
      if (now === 0) this.held.delete(name)
      else this.held.set(name, now)
    }
  }
}

export interface Session {
  readonly principal: Principal
  readonly secret: string | undefined
  /** Called once, when the credentials are no longer good. */
  readonly end: (error: unknown) => void
}

/**
 * Watches the credentials that a feed was opened with: the end of a token, and keys that its
 * issuer withdrew. Returns how to stop.
 */
export function watchSession(context: ServerContext, session: Session): () => void {
  const { tokens } = context.auth
  const { expiresAtMs } = session.principal
  if (tokens === undefined || expiresAtMs === undefined) return () => {}
  let generation = tokens.generation()
  let cancel = () => {}
  let stopped = false
  const end = (error: unknown) => {
    if (stopped) return
    stopped = true
    session.end(error)
  }
  const again = () => {
    if (stopped) return
    const leftMs = Math.max(expiresAtMs - context.clock(), 0)
    cancel = context.schedule(check, Math.min(leftMs, context.limits.sessionCheckMs))
  }
  const check = () => {
    if (context.clock() >= expiresAtMs) {
      end(apiError('TOKEN_EXPIRED'))
      return
    }
    const now = tokens.generation()
    if (now === generation) {
      again()
      return
    }
    generation = now
    identify(context.auth, session.secret).then(again, error => {
      // Keys that cannot be had say nothing about the token.
      if (error instanceof MillraceError && error.status !== 401) again()
      else end(error)
    })
  }
  again()
  return () => {
    stopped = true
    cancel()
  }
}
