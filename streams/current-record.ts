/** The record that a function of the user's looks at: one object for all records of a step. */
import { header } from '../log/record-headers.ts'
import type { Batch } from './batch.ts'
import type { RecordOrigin } from './operator.ts'
import { contextOf, traceparentOf } from './trace-context.ts'

/** What is known of a record beside key and value. Valid during the call. */
export interface RecordContext {
  readonly timeMs: number
  /** Stream time of the record's own source partition: what lateness is judged by. */
  readonly streamTimeMs: number
  /** Where it was read, as its order key says; undefined for results of closing. */
  readonly origin: RecordOrigin | undefined
  readonly offset: number
  /** A header's bytes; undefined where there is none of this name. */
  header(name: string): Buffer | null | undefined
  /** Where it stands in its trace, as a header `traceparent` says it; undefined if unsampled. */
  readonly traceparent: string | undefined
}

export class CurrentRecord implements RecordContext {
  readonly #origins: readonly RecordOrigin[]
  #batch: Batch | undefined
  #i = 0

  constructor(origins: readonly RecordOrigin[]) {
    this.#origins = origins
  }

  at(batch: Batch, i: number): this {
    this.#batch = batch
    this.#i = i
    return this
  }

  get key(): unknown {
    return this.#batch!.keys[this.#i]
  }

  get value(): unknown {
    return this.#batch!.values[this.#i]
  }

  get timeMs(): number {
    return this.#batch!.times[this.#i]!
  }

  get streamTimeMs(): number {
    return this.#batch!.streamTimes[this.#i]!
  }

  get origin(): RecordOrigin | undefined {
    return this.#origins[this.#batch!.sources[this.#i]!]
  }

  get offset(): number {
    return this.#batch!.offsets[this.#i]!
  }

  get traceparent(): string | undefined {
    const { columns, rows, traces } = this.#batch!
    const span = traces?.get(this.#i)
    const context = span?.spanContext() ?? (columns && contextOf(columns, rows[this.#i]!))
    return context && traceparentOf(context)
  }

  header(name: string): Buffer | null | undefined {
    const { columns, rows } = this.#batch!
    return columns && header(columns, rows[this.#i]!, Buffer.from(name))
  }
}
