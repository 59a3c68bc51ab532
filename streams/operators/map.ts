/**
 * Replaces key, value or both of each record: `map`, `mapValues`, `selectKey`.
 *
 * in     any stream
 * time   none: stateless; results keep the record's time and origin
 * state  none
 * out    one record for each
 * late   nothing is late here; a function that throws sends its record to `poison`
 */
import type { Batch } from '../batch.ts'
import { CurrentRecord, type RecordContext } from '../current-record.ts'
import type { Operator, OperatorContext } from '../operator.ts'

export interface MapSpec {
  readonly key?: (value: unknown, key: unknown) => unknown
  readonly value?: (value: unknown, key: unknown, record: RecordContext) => unknown
  /** Gives both, instead of the two above. */
  readonly pair?: (value: unknown, key: unknown) => readonly [unknown, unknown]
}

export function map(spec: MapSpec, { origins }: Pick<OperatorContext, 'origins'>): Operator {
  const { key: mapKey, value: mapValue, pair } = spec
  const record = new CurrentRecord(origins)
  return {
    process(input, _port, out) {
      const keys: unknown[] | undefined = (pair ?? mapKey) && []
      const values: unknown[] | undefined = (pair ?? mapValue) && []
      let failed: Set<number> | undefined
      for (let i = 0; i < input.length; i++) {
        const key = input.keys[i]
        const value = input.values[i]
        try {
          if (pair !== undefined) {
            const [newKey, newValue] = pair(value, key)
            keys!.push(newKey)
            values!.push(newValue)
            continue
          }
          if (mapKey !== undefined) keys!.push(mapKey(value, key))
          if (mapValue !== undefined) values!.push(mapValue(value, key, record.at(input, i)))
        } catch (error) {
          out.fail(input, i, error, { reason: 'poison' })
          failed ??= new Set()
          failed.add(i)
          if (keys?.length === i) keys.push(undefined)
          if (values?.length === i) values.push(undefined)
        }
      }
      const mapped = input.replaced({ keys, values })
      out.main = failed === undefined ? mapped : without(mapped, failed)
    },
  }
}

function without(batch: Batch, left: ReadonlySet<number>): Batch {
  const kept = batch.successor<unknown, unknown>({ keys: true, values: true })
  for (let i = 0; i < batch.length; i++) {
    if (!left.has(i)) kept.derive(batch, i, batch.keys[i], batch.values[i])
  }
  return kept
}
