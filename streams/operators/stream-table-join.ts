/**
 * Adds to each record of a stream the row that a table has for its key: inner and left.
 *
 * in     a stream (port 0) and a table (port 1, whose changes only fill its store): co-partitioned,
 *        or with all its rows in each task, where the stream's values tell their key in it
 * time   the stream record's; the table adds nothing to stream time or watermark. By processing
 *        order: a record sees the table as far as it has been read (docs/TIME.md, exempt)
 * state  none of its own: the table's store
 * out    one result a record that finds a row; with `left` one for every record
 * late   nothing is late here; null keys leave by `null-key`
 */
import type { RowKey, RowStore } from '../../state/port.ts'
import { isNull } from '../batch.ts'
import type { Operator, OperatorContext } from '../operator.ts'
import type { KeySerde, Timed } from '../serde.ts'

export interface StreamTableJoinSpec {
  readonly kind: 'inner' | 'left'
  readonly table: string
  readonly key: KeySerde<unknown>
  /** A record's key in the table; null for none. The record's own unless given. */
  readonly keyOf?: (value: unknown, key: unknown) => unknown
  readonly joiner: (value: unknown, row: unknown, key: unknown) => unknown
}

export function streamTableJoin(spec: StreamTableJoinSpec, context: OperatorContext): Operator {
  const rows: RowStore<Timed<unknown>> = context.rowStore(spec.table)
  const keyOf = spec.keyOf ?? ((_value: unknown, key: unknown) => key)
  /** What each record of the batch at hand finds: a row key, null for none, or what was thrown. */
  let found: (RowKey | null | Error)[] = []

  function look(value: unknown, key: unknown): RowKey | null | Error {
    try {
      const own = keyOf(value, key)
      return isNull(own) ? null : spec.key.encode(own)
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error))
    }
  }

  return {
    prepare(input, port) {
      if (port !== 0) return undefined
      found = input.keys.map((key, i) => look(input.values[i], key))
      return rows.prefetch(new Set(found.filter(row => typeof row === 'string')))
    },
    process(input, port, out) {
      if (port !== 0) return
      const results = input.successor({ keys: true })
      for (let i = 0; i < input.length; i++) {
        const key = input.keys[i]
        const at = found[i] ?? null
        if (isNull(key) && spec.keyOf === undefined) {
          out.drop(input, i, 'null-key')
          continue
        }
        if (at instanceof Error) {
          out.fail(input, i, at, { reason: 'poison' })
          continue
        }
        const row = at === null ? null : (rows.get(at)?.value ?? null)
        if (row === null && spec.kind === 'inner') continue
        try {
          results.derive(input, i, key, spec.joiner(input.values[i], row, key))
        } catch (error) {
          out.fail(input, i, error, { reason: 'poison' })
        }
      }
      out.main = results
    },
  }
}
