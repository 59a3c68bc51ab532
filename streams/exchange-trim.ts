/**
 * Keeps repartition topics short: what this instance's tasks have committed as read is deleted
 * from them (law 4: no broker clock does it). Now and then, beside the epochs; a failure costs
 * space only, until the next time.
 */
import type { EventLog, TopicPartition } from '../log/port.ts'
import { ExchangePartition } from './exchange-partition.ts'
import type { InputPartition } from './input-partition.ts'

export interface ExchangeTrimOptions {
  readonly log: EventLog
  readonly clock: () => number
  /** From one time to the next, ms. */
  readonly intervalMs: number
}

/** Nothing below `offset` will be read again. */
export interface TrimPoint extends TopicPartition {
  readonly offset: number
}

export class ExchangeTrim {
  readonly #options: ExchangeTrimOptions
  readonly #trimmed = new Map<string, number>()
  #dueMs: number
  #running = false

  constructor(options: ExchangeTrimOptions) {
    this.#options = options
    this.#dueMs = options.clock() + options.intervalMs
  }

  /** Where an epoch that is sealed now will have read to; undefined while it is not time. */
  points(inputs: readonly InputPartition[]): readonly TrimPoint[] | undefined {
    if (this.#running || this.#options.clock() < this.#dueMs) return undefined
    return inputs
      .filter(input => input instanceof ExchangePartition)
      .map(({ topic, partition, position }) => ({ topic, partition, offset: position }))
  }

  /** To be called once that epoch is committed: a new owner begins there and not before. */
  trim(points: readonly TrimPoint[]): void {
    const { log, clock, intervalMs } = this.#options
    this.#dueMs = clock() + intervalMs
    this.#running = true
    const deletions = points.map(async ({ topic, partition, offset }) => {
      const place = `${topic}/${partition}`
      if ((this.#trimmed.get(place) ?? 0) >= offset) return
      await log.deleteRecords({ topic, partition }, offset)
      this.#trimmed.set(place, offset)
    })
    void Promise.allSettled(deletions).then(() => {
      this.#running = false
    })
  }
}
