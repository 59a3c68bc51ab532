/**
 * Adds up all records of each key in their order, and keeps them: the value of now, or as of any
 * time of the history. With the last record as the value it is a versioned table.
 *
 * in     records by key; null keys leave by `null-key`; null deletes in a table, else `poison`
 * time   by order key (time, source partition, offset): a record that comes later than it happened
 *        takes its place, and all that follows it is added up again (law 16)
 * state  one row a key: the records of the history, and what those before it came to
 * out    the changed rows of a batch, once each, with the value before; null deletes
 * late   time + history before the record's own stream time (or the watermark, after idleness)
 *
 * Records are folded into the row's base once the watermark is more than the history after them:
 * none that is on time can come before. A row of too many bytes folds its older half; a record
 * that belongs before that leaves by `overflow`.
 */
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull } from '../batch.ts'
import { ChangedRows } from '../changed-rows.ts'
import type { Operator, OperatorContext, Outputs, SideReason, StoreSpec } from '../operator.ts'
import { orderedRecord } from '../ordered-records.ts'
import { NO_VALUE, type Replay, VersionedRow, versionedRowCodec } from '../versioned-row.ts'

export interface VersionedSpec extends Replay {
  /** Infinity: all records are kept. */
  readonly historyMs: number
  /** Of the records that a row keeps. */
  readonly bytesMax: number
}

export function versionedStores(spec: VersionedSpec): StoreSpec[] {
  return [{ kind: 'rows', name: spec.name, codec: versionedRowCodec(spec) as Codec<unknown> }]
}

export function versionedAggregate(spec: VersionedSpec, context: OperatorContext): Operator {
  return new VersionedAggregate(spec, context)
}

type Refused =
  | { readonly reason: SideReason; readonly detail?: string }
  | { readonly error: unknown }

const NO_BYTES = Buffer.alloc(0)

class VersionedAggregate implements Operator {
  readonly #spec: VersionedSpec
  readonly #context: OperatorContext
  readonly #store: RowStore<VersionedRow>
  #rows: (RowKey | undefined)[] = []

  constructor(spec: VersionedSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#store = context.rowStore(spec.name)
  }

  prepare(input: Batch): Promise<void> | undefined {
    const { key } = this.#spec
    this.#rows = input.keys.map(k => (isNull(k) ? undefined : key.encode(k)))
    return this.#store.prefetch(new Set(this.#rows.filter(row => row !== undefined)))
  }

  process(input: Batch, _port: number, out: Outputs): void {
    const changed = new ChangedRows()
    for (let i = 0; i < input.length; i++) {
      const row = this.#rows[i]
      if (row === undefined) {
        out.drop(input, i, 'null-key')
        continue
      }
      const before = this.#store.get(row)
      const refused = this.#take(input, i, before ?? new VersionedRow(this.#spec, row))
      if (refused !== undefined) {
        if ('error' in refused) out.fail(input, i, refused.error)
        else out.drop(input, i, refused.reason, refused.detail)
      } else if (this.#context.observed) {
        changed.note(row, input, i, before?.value ?? undefined)
      }
    }
    if (this.#context.observed) out.main = this.#changes(input, changed)
  }

  #take(input: Batch, i: number, before: VersionedRow): Refused | undefined {
    const { name, historyMs, bytesMax, lastOnly, value: serde } = this.#spec
    const value = input.values[i]
    const timeMs = input.times[i]!
    const watermarkMs = this.#context.watermarkMs()
    if (isNull(value) && !lastOnly) {
      return { reason: 'poison', detail: 'a null value adds nothing to an aggregate' }
    }
    if (timeMs + historyMs < Math.max(input.streamTimes[i]!, watermarkMs)) {
      return { reason: 'late', detail: `${name} no longer takes records of its time` }
    }
    if (!before.takes({ timeMs, source: input.sources[i]!, offset: input.offsets[i]! })) {
      const detail = `${name} keeps ${bytesMax} bytes of records a key, and this key's are later`
      return { reason: 'overflow', detail }
    }
    try {
      const bytes = isNull(value) ? NO_BYTES : serde.encode(value)
      const record = orderedRecord(input, i, { note: isNull(value) ? NO_VALUE : 0, value: bytes })
      const row = before.with(record).trimmed(watermarkMs - historyMs, bytesMax)
      this.#store.put(row.key, row)
      return undefined
    } catch (error) {
      return { error }
    }
  }

  #changes(input: Batch, changed: ChangedRows): Batch {
    const batch = new Batch()
    for (const [row, { key, record, previous, span }] of changed) {
      const { value, timeMs, records } = this.#store.get(row)!
      if (value === (previous ?? null)) continue
      const { source, offset } = records.at(-1) ?? { source: -1, offset: 0 }
      batch.change({ key, value, timeMs, streamTimeMs: timeMs, source, offset }, previous)
      // No partition stands at a record of an earlier batch.
      const isOther = source !== input.sources[record] || offset !== input.offsets[record]
      if (isOther || input.isReleased(record)) {
        batch.release(batch.length - 1)
      }
      batch.trace(span)
    }
    return batch
  }
}
