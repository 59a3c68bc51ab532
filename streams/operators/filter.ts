/**
 * Keeps the records that satisfy a predicate; keys, times and bytes stay as they are.
 *
 * in     any stream
 * time   none: stateless
 * state  none
 * out    the records kept, in order
 * late   nothing is late here; a predicate that throws sends its record to `poison`
 */
import type { Operator } from '../operator.ts'

export interface FilterSpec {
  readonly keep: (value: unknown, key: unknown) => boolean
}

export function filter(spec: FilterSpec): Operator {
  return {
    process(input, _port, out) {
      const kept = input.successor({ keys: true, values: true })
      for (let i = 0; i < input.length; i++) {
        try {
          if (!spec.keep(input.values[i], input.keys[i])) continue
        } catch (error) {
          out.fail(input, i, error, { reason: 'poison' })
          continue
        }
        kept.keep(input, i)
      }
      out.main = kept
    },
  }
}
