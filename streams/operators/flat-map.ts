/**
 * Replaces each record by none, one or several.
 *
 * in     any stream
 * time   none: stateless; results keep the record's time and origin
 * state  none
 * out    the `[key, value]` pairs of each record, in order
 * late   nothing is late here; a function that throws sends its record to `poison`
 */
import type { Operator } from '../operator.ts'

export interface FlatMapSpec {
  readonly expand: (value: unknown, key: unknown) => Iterable<readonly [unknown, unknown]>
}

export function flatMap(spec: FlatMapSpec): Operator {
  return {
    process(input, _port, out) {
      const expanded = input.successor({})
      for (let i = 0; i < input.length; i++) {
        try {
          const pairs = [...spec.expand(input.values[i], input.keys[i])]
          for (const [key, value] of pairs) expanded.derive(input, i, key, value)
        } catch (error) {
          out.fail(input, i, error, { reason: 'poison' })
        }
      }
      out.main = expanded
    },
  }
}
