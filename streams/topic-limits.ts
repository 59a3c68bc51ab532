/**
 * How large a batch topics take, learned from what they refused. An output that is too large for
 * its topic is a dead letter from then on, and so is a record that makes a row too large for its
 * changelog, where the step can refuse it. Other state, or an exchange, has nowhere else to go: the
 * engine stops, and says what to change.
 */
import { MillraceError, streamsError } from './errors.ts'

/** Of a batch, besides its records' keys, values and headers. */
const OVERHEAD_BYTES = 256
/** No topic takes so little: what is refused below was there before it was measured. */
const LEAST_BYTES = 1024

/** What is written there can be put aside: results, or the record that changed a row. */
export type TopicKind = 'output' | 'rows' | 'other'

export class TopicLimits {
  readonly #limits = new Map<string, number>()
  /** Whose limit was said; that of others is guessed, lower and lower. */
  readonly #told = new Set<string>()
  readonly #kindOf: (topic: string) => TopicKind

  constructor(kindOf: (topic: string) => TopicKind) {
    this.#kindOf = kindOf
  }

  /** Bytes of keys, values and headers that a batch of the topic may have, where it is known. */
  known(topic: string): number | undefined {
    return this.#limits.get(topic)
  }

  /** The same; Infinity where it is not known. */
  of(topic: string): number {
    return this.known(topic) ?? Number.POSITIVE_INFINITY
  }

  /** Learns from the failure of an epoch; gives what the engine goes on with. */
  judge(failure: unknown): unknown {
    if (!(failure instanceof MillraceError) || failure.code !== 'BATCH_TOO_LARGE') return failure
    const { topic, size, limit = size } = failure.details as Readonly<Record<string, never>>
    const kind = this.#kindOf(topic)
    // Rows that were measured and are still too large were there before.
    const isRefused = kind === 'rows' && !this.#told.has(topic) && this.of(topic) > LEAST_BYTES
    if (kind !== 'output' && !isRefused)
      return streamsError('STATE_TOO_LARGE', { topic, size, limit })
    const isNews = failure.details.limit !== undefined && !this.#told.has(topic)
    if (isNews) this.#told.add(topic)
    const told = Number(limit) - OVERHEAD_BYTES
    // Refused although it was below: so it takes less than it says.
    this.#limits.set(topic, Math.max(0, isNews ? told : Math.min(told, this.of(topic) / 2)))
    return failure
  }
}
