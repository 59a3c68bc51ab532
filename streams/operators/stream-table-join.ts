/**
 * Adds to each record of a stream the row that a table has for its key: inner and left.
 *
 * in     a stream (port 0) and a co-partitioned table (port 1, whose changes only fill its store)
 * time   the stream record's; the table adds nothing to stream time or watermark. By processing
 *        order: a record sees the table as far as it has been read (docs/TIME.md, exempt)
 * state  none of its own: the table's store
 * out    one result a record that finds a row; with `left` one for every record
 * late   nothing is late here; null keys leave by `null-key`
 */
import type { RowKey, RowStore } from '../../state/port.ts'
import type { Operator, OperatorContext } from '../operator.ts'
import type { KeySerde, Timed } from '../serde.ts'

export interface StreamTableJoinSpec {
  readonly kind: 'inner' | 'left'
  readonly table: string
  readonly key: KeySerde<unknown>
  readonly joiner: (value: unknown, row: unknown, key: unknown) => unknown
}

export function streamTableJoin(spec: StreamTableJoinSpec, context: OperatorContext): Operator {
  const rows: RowStore<Timed<unknown>> = context.rowStore(spec.table)
  return {
    prepare(input, port) {
      if (port !== 0) return undefined
      const keys = new Set<RowKey>()
      for (const key of input.keys) {
        if (key !== null && key !== undefined) keys.add(spec.key.encode(key))
      }
      return rows.prefetch(keys)
    },
    process(input, port, out) {
      if (port !== 0) return
      const results = input.successor({ keys: true })
      for (let i = 0; i < input.length; i++) {
        const key = input.keys[i]
        if (key === null || key === undefined) {
          out.drop(input, i, 'null-key')
          continue
        }
        const row = rows.get(spec.key.encode(key))?.value ?? null
        if (row === null && spec.kind === 'inner') continue
        try {
          results.derive(input, i, key, spec.joiner(input.values[i], row, key))
        } catch (error) {
          out.drop(input, i, 'poison', String(error))
        }
      }
      out.main = results
    },
  }
}
