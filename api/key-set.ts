/**
 * The public keys that bearer tokens are checked with: a JWK set, fetched when it is needed and
 * kept. A set that is old is fetched again beside the requests that use it, one that is too old
 * is not used at all; a key that is not in the set is looked for anew, though not more often
 * than the cool-down allows, whatever tokens name.
 */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { apiError } from './errors.ts'
import type { Schedule } from './limits.ts'

/** Fetches the text of the set. Throws where there is no answer; stops when aborted. */
export type FetchKeySet = (signal: AbortSignal) => Promise<string>

/** All in ms. */
export interface KeySetTimes {
  /** After this a set is fetched again, which withdraws keys that are no longer in it. */
  readonly freshMs: number
  /** After this a set is not used any more. */
  readonly staleMsMax: number
  /** Between two fetches because of keys that were not in the set. */
  readonly coolDownMs: number
  /** Between two fetches of which the first failed. */
  readonly retryMs: number
  readonly timeoutMs: number
}

export const defaultKeySetTimes: KeySetTimes = {
  freshMs: 600_000,
  staleMsMax: 3_600_000,
  coolDownMs: 30_000,
  retryMs: 5_000,
  timeoutMs: 5_000,
}

export interface KeySetOptions {
  readonly fetch: FetchKeySet
  /** Epoch ms. */
  readonly clock: () => number
  readonly schedule: Schedule
  readonly times?: Partial<KeySetTimes>
  /** Told of every fetch that failed; requests go on with the keys there are. */
  readonly onError?: (error: unknown) => void
}

/** Larger sets are no sets of signing keys. */
const charactersMax = 1024 * 1024

interface Keys {
  readonly text: string
  readonly find: JWTVerifyGetKey
}

export class KeySet {
  private readonly options: KeySetOptions
  private readonly times: KeySetTimes
  private keys: Keys | undefined
  private fetchedAt = 0
  private triedAt: number | undefined
  private failed = false
  private fetching: Promise<void> | undefined
  private changes = 0

  constructor(options: KeySetOptions) {
    this.options = options
    this.times = { ...defaultKeySetTimes, ...options.times }
  }

  /**
   * Counts the sets there were: a session that was accepted under another is looked at again.
   * Asking keeps the set fresh, so that withdrawn keys are noticed without any request.
   */
  generation(): number {
    if (this.passed(this.fetchedAt, this.times.freshMs)) void this.refresh()
    return this.changes
  }

  /** The key of a token. Throws KEYS_UNAVAILABLE, or jose's error for a key that is not there. */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (this.keys === undefined || this.passed(this.fetchedAt, this.times.staleMsMax)) {
      await this.refresh()
    }
    this.generation()
    try {
      return await this.usable().find(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
      if (this.passed(this.fetchedAt, this.times.coolDownMs)) await this.refresh()
      // The key may be in the set that could not be had.
      if (this.failed) throw apiError('KEYS_UNAVAILABLE', {}, { cause: error })
      return this.usable().find(header, token)
    }
  }

  private usable(): Keys {
    const { keys } = this
    if (keys !== undefined && !this.passed(this.fetchedAt, this.times.staleMsMax)) return keys
    throw apiError('KEYS_UNAVAILABLE')
  }

  /** A clock that went back is no reason to wait for it. */
  private passed(since: number, ms: number): boolean {
    const elapsed = this.options.clock() - since
    return elapsed >= ms || elapsed < 0
  }

  /** Fetches the set unless that is under way, or has failed a moment ago. Never throws. */
  refresh(): Promise<void> {
    if (this.fetching !== undefined) return this.fetching
    const { triedAt } = this
    if (this.failed && triedAt !== undefined && !this.passed(triedAt, this.times.retryMs)) {
      return Promise.resolve()
    }
    this.fetching = this.fetch().finally(() => {
      this.fetching = undefined
    })
    return this.fetching
  }

  private async fetch(): Promise<void> {
    const abort = new AbortController()
    const timeout = new Error(`no answer within ${this.times.timeoutMs} ms`)
    const cancel = this.options.schedule(() => abort.abort(timeout), this.times.timeoutMs)
    try {
      const text = await this.options.fetch(abort.signal)
      if (this.keys?.text !== text) {
        this.keys = { text, find: keysOf(text) }
        this.changes++
      }
      this.fetchedAt = this.options.clock()
      this.failed = false
    } catch (error) {
      this.failed = true
      this.options.onError?.(error)
    } finally {
      this.triedAt = this.options.clock()
      cancel()
    }
  }
}

function keysOf(text: string): JWTVerifyGetKey {
  if (text.length > charactersMax) throw new RangeError(`a key set of ${text.length} characters`)
  return createLocalJWKSet(JSON.parse(text) as JSONWebKeySet)
}
