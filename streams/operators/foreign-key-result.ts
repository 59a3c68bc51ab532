/**
 * Last step of a foreign-key join: the table of its results.
 *
 * in     responses by the left table's key, of several tasks while a row changes its foreign key
 * time   the later time of the two rows
 * state  one row a left row: the result and the version of the left row that it is of; without a
 *        value where there is none, so that an older response is still known as such
 * out    the changes of a batch, one a key, with the value before
 * late   nothing is late; a response for an older version of the left row changes nothing
 */
import type { Codec, RowStore } from '../../state/port.ts'
import { Batch, NO_SOURCE, result } from '../batch.ts'
import { ChangedRows } from '../changed-rows.ts'
import type { Response } from '../foreign-key-messages.ts'
import type { Operator, OperatorContext, StoreSpec } from '../operator.ts'
import type { KeySerde, ValueSerde } from '../serde.ts'
import { type TableRow, tableRowCodec } from './table.ts'

export interface ForeignKeyResultSpec {
  readonly name: string
  readonly key: KeySerde<unknown>
  readonly value: ValueSerde<unknown>
}

export function foreignKeyResultStores({ name, value }: ForeignKeyResultSpec): StoreSpec[] {
  return [{ kind: 'rows', name, codec: tableRowCodec(value) as Codec<unknown> }]
}

export function foreignKeyResult(spec: ForeignKeyResultSpec, context: OperatorContext): Operator {
  // A row's offset is the version of its left row.
  const results: RowStore<TableRow> = context.rowStore(spec.name)
  return {
    prepare: input => results.prefetch(new Set(input.keys.map(key => spec.key.encode(key)))),
    process(input, _port, out) {
      const changed = new ChangedRows()
      for (let i = 0; i < input.length; i++) {
        const response = input.values[i] as Response
        const row = spec.key.encode(input.keys[i])
        const before = results.get(row)
        if (before !== undefined && response.version < before.offset) continue
        changed.note(row, input, i, before?.value ?? undefined)
        const timeMs = input.times[i]!
        results.put(row, {
          value: response.result,
          timeMs,
          source: NO_SOURCE,
          offset: response.version,
        })
      }
      const changes = new Batch()
      for (const [row, { key, previous, span }] of changed) {
        const { value, timeMs } = results.get(row)!
        if (value === null && previous === undefined) continue
        changes.change(result(key, value, timeMs), previous)
        changes.trace(span)
      }
      out.main = changes
    },
  }
}
