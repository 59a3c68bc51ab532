/**
 * Lets the first record of each id pass.
 *
 * in     any stream whose copies of a record meet in one task; records without an id pass
 * time   a copy is one whose stream time is within the time to live of the passed record's
 * state  one row a passed record, id and stream time, in blocks until the time to live is over
 * out    the records that passed, as they are
 * late   nothing is late; copies leave by `duplicate`
 *
 * The time to live runs in *stream time*, which a source partition's records carry in order and
 * which the watermark never passes: so the row is there whenever it counts, a record that is
 * very late is judged like any other, and of copies in one source partition it is the first in
 * the log that passes (law 16; of equal timestamps that is the smallest order key). Of copies in
 * several partitions, all within the time to live of each other, exactly one passes: the one
 * that arrived first. It has been sent on when a copy with a smaller order key turns up.
 */
import { header } from '../../log/record-headers.ts'
import { hashedKey } from '../../state/key-column.ts'
import { encodeText } from '../../state/keys.ts'
import type { AppendRow, AppendStore, HashedKey, Probe, RowKey } from '../../state/port.ts'
import type { Batch } from '../batch.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'

export type RecordId =
  /** Name of the header that has the id. */
  { readonly header: string } | ((value: unknown, key: unknown) => string | null | undefined)

export interface DeduplicateSpec {
  readonly name: string
  readonly id: RecordId
  readonly ttlMs: number
}

/** Rows are dropped by segments: an eighth of the time to live, so that few outlive it. */
const SEGMENTS = 8

export function deduplicateStores(spec: DeduplicateSpec): StoreSpec[] {
  const segmentMs = Math.max(Math.ceil(spec.ttlMs / SEGMENTS), 1)
  return [{ kind: 'blocks', name: spec.name, segmentMs }]
}

const EMPTY: HashedKey = hashedKey('')

export function deduplicate(spec: DeduplicateSpec, context: OperatorContext): Operator {
  return new Deduplicate(spec, context)
}

class Deduplicate implements Operator {
  readonly #spec: DeduplicateSpec
  readonly #context: OperatorContext
  readonly #seen: AppendStore
  readonly #header: Buffer
  #ids: (HashedKey | Error | undefined)[] = []
  readonly #probe: Probe = { key: EMPTY, fromMs: 0, toMs: 0 }
  readonly #row: AppendRow = {
    key: EMPTY,
    value: EMPTY,
    timeMs: 0,
    streamTimeMs: 0,
    trace: undefined,
  }

  constructor(spec: DeduplicateSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#seen = context.appendStore(spec.name)
    this.#header = Buffer.from(typeof spec.id === 'function' ? '' : spec.id.header)
  }

  #id(input: Batch, i: number): RowKey | undefined {
    const { id } = this.#spec
    if (typeof id === 'function') {
      const text = id(input.values[i], input.keys[i])
      return text === null || text === undefined ? undefined : encodeText(text)
    }
    if (input.columns === undefined) return undefined
    return header(input.columns, input.rows[i]!, this.#header)?.latin1Slice()
  }

  #aim(id: HashedKey, streamTimeMs: number): Probe {
    this.#probe.key = id
    this.#probe.fromMs = streamTimeMs - this.#spec.ttlMs
    this.#probe.toMs = streamTimeMs + this.#spec.ttlMs
    return this.#probe
  }

  /** After idleness a partition may be behind the watermark: rows are kept by the watermark. */
  #streamTimeMs(input: Batch, i: number): number {
    return Math.max(input.streamTimes[i]!, this.#context.watermarkMs())
  }

  prepare(input: Batch): Promise<void> | undefined {
    this.#ids = []
    for (let i = 0; i < input.length; i++) {
      let id: HashedKey | Error | undefined
      try {
        const text = this.#id(input, i)
        id = text === undefined ? undefined : hashedKey(text)
        if (id !== undefined) this.#seen.want(this.#aim(id, this.#streamTimeMs(input, i)))
      } catch (error) {
        id = error instanceof Error ? error : new Error(String(error))
      }
      this.#ids.push(id)
    }
    return this.#seen.load()
  }

  process(input: Batch, _port: number, out: Outputs): void {
    const passed = input.successor({ keys: true, values: true })
    for (let i = 0; i < input.length; i++) {
      const id = this.#ids[i]
      if (id instanceof Error) out.fail(input, i, id, { reason: 'poison' })
      else if (id === undefined || this.#pass(id, this.#streamTimeMs(input, i))) {
        passed.keep(input, i)
      } else out.drop(input, i, 'duplicate', `${this.#spec.name} has seen this id`)
    }
    out.main = passed
  }

  /** Notes the id, unless it is there. */
  #pass(id: HashedKey, streamTimeMs: number): boolean {
    const probe = this.#aim(id, streamTimeMs)
    let seen = false
    this.#seen.lookup(probe, () => {
      seen = true
    })
    if (seen) return false
    this.#row.key = probe.key
    this.#row.timeMs = streamTimeMs
    this.#row.streamTimeMs = streamTimeMs
    this.#seen.append(this.#row)
    return true
  }

  close(watermarkMs: number): void {
    this.#seen.expire(watermarkMs - this.#spec.ttlMs)
  }
}
