/**
 * Replaces key, value or both of each record: `map`, `mapValues`, `selectKey`.
 *
 * in     any stream
 * time   none: stateless; results keep the record's time and origin
 * state  none
 * out    one record for each
 * late   nothing is late here; a function that throws sends its record to `poison`
 */
import type { Operator } from '../operator.ts'

export interface MapSpec {
  readonly key?: (value: unknown, key: unknown) => unknown
  readonly value?: (value: unknown, key: unknown) => unknown
}

export function map(spec: MapSpec): Operator {
  const { key: mapKey, value: mapValue } = spec
  return {
    process(input, _port, out) {
      const mapped = input.successor({
        keys: mapKey === undefined,
        values: mapValue === undefined,
      })
      for (let i = 0; i < input.length; i++) {
        const key = input.keys[i]
        const value = input.values[i]
        try {
          mapped.derive(
            input,
            i,
            mapKey === undefined ? key : mapKey(value, key),
            mapValue === undefined ? value : mapValue(value, key),
          )
        } catch (error) {
          out.drop(input, i, 'poison', String(error))
        }
      }
      out.main = mapped
    },
  }
}
