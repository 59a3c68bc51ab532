/**
 * Makes a table of a stream: the last value of each key.
 *
 * in     records by key; null keys leave by `null-key`; a null value deletes
 * time   by order key (time, source partition, offset), so that the last write is the same one
 *        however partitions interleave; of one topic by offset, as compaction keeps it
 * state  one row a key: value, time and order key; a deletion stays as a row without value
 * out    the changes of a batch, one a key, with the value before
 * late   nothing is late: an older write than the row's own changes nothing
 */
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch } from '../batch.ts'
import { ChangedRows } from '../changed-rows.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import type { KeySerde, ValueSerde } from '../serde.ts'

export interface TableSpec {
  readonly name: string
  readonly key: KeySerde<unknown>
  readonly value: ValueSerde<unknown>
  /** `offset` where all writes of a key are in one partition of one topic. */
  readonly order: 'offset' | 'time'
}

/** A row of a table; `value` null was deleted. */
export interface TableRow {
  readonly value: unknown
  readonly timeMs: number
  readonly source: number
  readonly offset: number
}

export function tableStores(spec: TableSpec): StoreSpec[] {
  const codec = tableRowCodec(spec.value) as Codec<unknown>
  return [{ kind: 'rows', name: spec.name, codec, refusesLarge: true }]
}

/** `deleted:uint8 time:float64 offset:float64 source:int32 value`, big-endian. */
export function tableRowCodec(value: ValueSerde<unknown>): Codec<TableRow> {
  const HEAD = 21
  return {
    encode(row) {
      const encoded = row.value === null ? Buffer.alloc(0) : value.encode(row.value)
      const bytes = Buffer.allocUnsafe(HEAD + encoded.length)
      bytes[0] = row.value === null ? 1 : 0
      bytes.writeDoubleBE(row.timeMs, 1)
      bytes.writeDoubleBE(row.offset, 9)
      bytes.writeInt32BE(row.source, 17)
      encoded.copy(bytes, HEAD)
      return bytes
    },
    decode(bytes) {
      return {
        value: bytes[0] === 1 ? null : value.decode(bytes, HEAD, bytes.length),
        timeMs: bytes.readDoubleBE(1),
        offset: bytes.readDoubleBE(9),
        source: bytes.readInt32BE(17),
      }
    },
  }
}

function isBefore(a: TableRow, b: TableRow): boolean {
  if (a.timeMs !== b.timeMs) return a.timeMs < b.timeMs
  return a.source === b.source ? a.offset < b.offset : a.source < b.source
}

export function table(spec: TableSpec, context: OperatorContext): Operator {
  const store: RowStore<TableRow> = context.rowStore(spec.name)
  return {
    prepare(input) {
      const rows = new Set<RowKey>()
      for (const key of input.keys) {
        if (key !== null && key !== undefined) rows.add(spec.key.encode(key))
      }
      return store.prefetch(rows)
    },
    process(input, _port, out: Outputs) {
      const changed = new ChangedRows()
      for (let i = 0; i < input.length; i++) {
        const key = input.keys[i]
        if (key === null || key === undefined) {
          out.drop(input, i, 'null-key')
          continue
        }
        const row = spec.key.encode(key)
        const before = store.get(row)
        const next: TableRow = {
          value: input.values[i] ?? null,
          timeMs: input.times[i]!,
          source: input.sources[i]!,
          offset: input.offsets[i]!,
        }
        if (before !== undefined && spec.order === 'time' && isBefore(next, before)) continue
        try {
          store.put(row, next)
          changed.note(row, input, i, before?.value ?? undefined)
        } catch (error) {
          out.fail(input, i, error)
        }
      }
      const changes = new Batch()
      for (const [row, { key, record, previous, span }] of changed) {
        const { value, timeMs, source, offset } = store.get(row)!
        changes.change({ key, value, timeMs, streamTimeMs: timeMs, source, offset }, previous)
        if (input.isReleased(record)) changes.release(changes.length - 1)
        changes.trace(span)
      }
      out.main = changes
    },
  }
}
