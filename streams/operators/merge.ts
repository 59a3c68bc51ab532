/**
 * Lets the records of several streams of one key and value type flow on as one.
 *
 * in     any number of streams
 * time   none: stateless; the watermark is the minimum of the inputs'
 * state  none
 * out    every record, in order within each input
 * late   nothing is late here
 */
import type { Operator } from '../operator.ts'

export function merge(): Operator {
  return {
    process(input, _port, out) {
      out.main = input
    },
  }
}
