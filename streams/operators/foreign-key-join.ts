/**
 * Second step of a foreign-key join: joins rows of the left table with the right row they refer to.
 *
 * in     messages of left rows (port 0) and changes of the right table (port 1), by foreign key
 * time   a result has the later time of its two rows; no window
 * state  one row a left row that refers to a right one, with the left value, beside those of the
 *        same right row; the right table is read from its own store
 * out    the result of a message, and of a change of a right row one for each row that refers to it
 * late   nothing is late: tables have no late rule
 */
import { afterPrefix, keyField } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch } from '../batch.ts'
import { type Message, messageSerde, type Response } from '../foreign-key-messages.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import type { KeySerde, Timed, ValueSerde } from '../serde.ts'
import { timedCodec } from '../serde.ts'

export interface ForeignKeyJoinSpec {
  readonly store: string
  readonly kind: 'inner' | 'left'
  /** Store of the right table. */
  readonly right: string
  readonly key: KeySerde<unknown>
  readonly foreign: KeySerde<unknown>
  readonly left: ValueSerde<unknown>
  readonly joiner: (left: unknown, right: unknown, key: unknown) => unknown
}

type Subscriber = Timed<Message>

export function foreignKeyJoinStores({ store, left }: ForeignKeyJoinSpec): StoreSpec[] {
  const serde = messageSerde(left)
  const message = {
    encode: serde.encode,
    decode: (bytes: Buffer) => serde.decode(bytes, 0, bytes.length),
  }
  return [{ kind: 'rows', name: store, codec: timedCodec(message as Codec<unknown>) }]
}

export function foreignKeyJoin(spec: ForeignKeyJoinSpec, context: OperatorContext): Operator {
  return new ForeignKeyJoin(spec, context)
}

class ForeignKeyJoin implements Operator {
  readonly #spec: ForeignKeyJoinSpec
  readonly #subscribers: RowStore<Subscriber>
  readonly #right: RowStore<Timed<unknown>>
  /** Of each changed right row of the batch, who refers to it. */
  #referring: Subscriber[][] = []

  constructor(spec: ForeignKeyJoinSpec, context: OperatorContext) {
    this.#spec = spec
    this.#subscribers = context.rowStore(spec.store)
    this.#right = context.rowStore(spec.right)
  }

  prepare(input: Batch, port: number): Promise<void> | undefined {
    if (port === 1) return this.#findReferring(input)
    const rows = new Set<RowKey>()
    const foreign = new Set<RowKey>()
    for (let i = 0; i < input.length; i++) {
      const { kind, key } = input.values[i] as Message
      if (kind === 'alone') continue
      foreign.add(input.keys[i] as RowKey)
      rows.add(keyField(input.keys[i] as RowKey) + key)
    }
    const reads = [this.#subscribers.prefetch(rows), this.#right.prefetch(foreign)]
    return reads.some(read => read) ? Promise.all(reads).then(() => {}) : undefined
  }

  async #findReferring(input: Batch): Promise<void> {
    this.#referring = []
    const foreign = input.keys.map(key => this.#spec.foreign.encode(key))
    await this.#right.prefetch(new Set(foreign))
    for (const key of foreign) {
      const prefix = keyField(key)
      const found: Subscriber[] = []
      for await (const rows of this.#subscribers.scan({ gte: prefix, lt: afterPrefix(prefix) })) {
        for (const { value } of rows) found.push(value)
      }
      this.#referring.push(found)
    }
  }

  process(input: Batch, port: number, out: Outputs): void {
    const responses = new Batch<unknown, Response>()
    for (let i = 0; i < input.length; i++) {
      if (port === 0) this.#take(responses, { input, i, out })
      else {
        const foreign = this.#spec.foreign.encode(input.keys[i])
        for (const { value, timeMs } of this.#referring[i]!) {
          this.#answer(responses, { input, i, out }, { message: value, foreign, timeMs })
        }
      }
    }
    out.main = responses
  }

  #take(responses: Batch<unknown, Response>, record: RecordAt): void {
    const { input, i } = record
    const message = input.values[i] as Message
    const foreign = input.keys[i] as RowKey
    const row = keyField(foreign) + message.key
    const timeMs = input.times[i]!
    if (message.kind === 'leave') {
      this.#subscribers.delete(row)
      return
    }
    if (message.kind === 'join') this.#subscribers.put(row, { value: message, timeMs })
    this.#answer(responses, record, { message, foreign, timeMs })
  }

  #answer(
    responses: Batch<unknown, Response>,
    { input, i, out }: RecordAt,
    { message, foreign, timeMs }: Referring,
  ): void {
    const { kind, key: keySerde, joiner } = this.#spec
    const right = message.kind === 'alone' ? undefined : present(this.#right.get(foreign))
    const key = keySerde.decode(message.key)
    let result: unknown = null
    try {
      const isJoined = message.left !== null && (right !== undefined || kind === 'left')
      if (isJoined) result = joiner(message.left, right?.value ?? null, key) ?? null
    } catch (error) {
      out.fail(input, i, error, { reason: 'poison' })
      return
    }
    const laterMs = Math.max(timeMs, right?.timeMs ?? 0)
    responses.emit({
      key,
      value: { version: message.version, result },
      timeMs: laterMs,
      streamTimeMs: laterMs,
      source: input.sources[i]!,
      offset: input.offsets[i]!,
    })
    if (input.isReleased(i)) responses.release(responses.length - 1)
    responses.trace(input.traces?.get(i))
  }
}

interface RecordAt {
  readonly input: Batch
  readonly i: number
  readonly out: Outputs
}

interface Referring {
  readonly message: Message
  readonly foreign: RowKey
  readonly timeMs: number
}

/** A row that is there: tables keep deleted ones without a value. */
function present(row: Timed<unknown> | undefined): Timed<unknown> | undefined {
  return row?.value === null ? undefined : row
}
