/** The one key of what is counted over everything: all records go to one partition. */
import type { KeySerde } from '../../streams/index.ts'

export const everything: KeySerde<''> = {
  name: 'everything',
  fields: [],
  encode: () => '',
  decode: () => '',
  toFields: () => ({}),
}
