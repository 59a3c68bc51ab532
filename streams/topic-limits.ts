/**
 * How large a batch topics take, learned from what they refused. An output that is too large for
 * its topic is a dead letter from then on. State or an exchange that is has nowhere else to go:
 * the engine stops, and says what to change.
 */
import { MillraceError, streamsError } from './errors.ts'

/** Of a batch, besides its records' keys, values and headers. */
const OVERHEAD_BYTES = 256

export class TopicLimits {
  readonly #limits = new Map<string, number>()
  readonly #isOutput: (topic: string) => boolean

  /** `isOutput`: what is written there can be put aside. */
  constructor(isOutput: (topic: string) => boolean) {
    this.#isOutput = isOutput
  }

  /** Bytes of keys, values and headers that a batch of the topic may have. */
  of(topic: string): number {
    return this.#limits.get(topic) ?? Number.POSITIVE_INFINITY
  }

  /** Learns from the failure of an epoch; gives what the engine goes on with. */
  judge(failure: unknown): unknown {
    if (!(failure instanceof MillraceError) || failure.code !== 'BATCH_TOO_LARGE') return failure
    const { topic, size, limit = size } = failure.details as Readonly<Record<string, never>>
    if (!this.#isOutput(topic)) return streamsError('STATE_TOO_LARGE', { topic, size, limit })
    const told = Number(limit) - OVERHEAD_BYTES
    // Refused although it was below: so it takes less than it says.
    this.#limits.set(topic, Math.max(0, Math.min(told, this.of(topic) / 2)))
    return failure
  }
}
