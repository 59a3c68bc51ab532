/**
 * First step of a foreign-key join: tells the other table's task which of its rows a row refers to.
 *
 * in     changes of the left table
 * time   the change's
 * state  one row a key of the left table, with its foreign key and the number of its last change;
 *        kept when the row is deleted, so that numbers never begin anew
 * out    a message a change to where the foreign key belongs, and one to where it belonged before
 * late   nothing is late: tables have no late rule
 */
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull } from '../batch.ts'
import type { Message } from '../foreign-key-messages.ts'
import type { Operator, OperatorContext, StoreSpec } from '../operator.ts'
import type { KeySerde } from '../serde.ts'

export interface SubscribeSpec {
  readonly store: string
  readonly key: KeySerde<unknown>
  readonly foreign: KeySerde<unknown>
  /** Null or undefined: the row refers to nothing. */
  readonly foreignKey: (value: unknown, key: unknown) => unknown
}

interface Reference {
  readonly version: number
  readonly foreign: RowKey | null
}

/** `version:float64 hasForeign:uint8 foreign` */
const referenceCodec: Codec<Reference> = {
  encode({ version, foreign }) {
    const bytes = Buffer.alloc(9 + (foreign?.length ?? 0))
    bytes.writeDoubleBE(version, 0)
    if (foreign !== null) {
      bytes[8] = 1
      bytes.latin1Write(foreign, 9)
    }
    return bytes
  },
  decode: bytes => ({
    version: bytes.readDoubleBE(0),
    foreign: bytes.readUInt8(8) === 1 ? bytes.latin1Slice(9) : null,
  }),
}

export function subscribeStores({ store }: SubscribeSpec): StoreSpec[] {
  return [{ kind: 'rows', name: store, codec: referenceCodec as Codec<unknown> }]
}

export function foreignKeySubscribe(spec: SubscribeSpec, context: OperatorContext): Operator {
  const references: RowStore<Reference> = context.rowStore(spec.store)
  return {
    prepare: input => references.prefetch(new Set(input.keys.map(key => spec.key.encode(key)))),
    process(input, _port, out) {
      const messages = new Batch<RowKey, Message>()
      for (let i = 0; i < input.length; i++) {
        const key = spec.key.encode(input.keys[i])
        const value = input.values[i]
        const before = references.get(key)
        let foreign: RowKey | null = null
        try {
          const found = isNull(value) ? null : spec.foreignKey(value, input.keys[i])
          if (!isNull(found)) foreign = spec.foreign.encode(found)
        } catch (error) {
          out.fail(input, i, error)
          continue
        }
        const version = (before?.version ?? 0) + 1
        const message = { key, version }
        const old = before?.foreign ?? null
        if (old !== null && old !== foreign) {
          messages.derive(input, i, old, { ...message, kind: 'leave', left: null })
        }
        const left = value ?? null
        // What refers to nothing is answered wherever it comes.
        if (foreign === null) messages.derive(input, i, key, { ...message, kind: 'alone', left })
        else messages.derive(input, i, foreign, { ...message, kind: 'join', left })
        references.put(key, { version, foreign })
      }
      out.main = messages
    },
  }
}
