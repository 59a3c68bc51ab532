/**
 * Event time is state (law 1): each task's source stream times, idle flags, exchange watermarks
 * and operator watermarks are rows of a store of their own, committed with the epoch and
 * loaded before the task takes a record.
 *
 * Row key: kind letter, name, index; `a` is of records put aside (`aside.ts`). `s` source topic,
 * `b` the offset at which its branch began to read that, `x` exchange input (upstream partition),
 * `o` stateful operator. The row `nodes` says that each stateful operator of the task has its row:
 * one without was not in it when its input was last read. Of an exchange that the task feeds, `e`,
 * idle says that it was taken out and input was read on. The row `c` of a store has the
 * incarnation of the log and the id of the changelog topic that the store's rows went to. Row
 * value, integers big-endian; of the flags 1 is idle, 2 says that the row ends with an unfinished
 * close (law 13) instead of with positions, 4 with a text:
 *
 *     value = flags:uint8 time:float64
 *             ((source:uint32 offset:float64)* | closed:float64 row:byte* | text:utf8)
 *
 * The positions (law 18) are those of inputs whose other end is on another instance.
 */
import type { Codec, RowStore } from '../state/port.ts'
import { ASIDE_END } from './aside.ts'
import type { Closing } from './closing.ts'
import type { NodeRuntime, Task } from './task.ts'
import { type InputProgress, sameProgress } from './watermark.ts'

interface Progress extends InputProgress {
  readonly closing?: Closing
  readonly text?: string
}

const IDLE = 1
const CLOSING = 2
const TEXT = 4

export const progressCodec: Codec<Progress> = {
  encode({ timeMs, idle, positions, closing, text }) {
    if (text !== undefined) return encodeText(text)
    const rest = closing ? 8 + closing.row.length : (positions?.size ?? 0) * POSITION_BYTES
    const bytes = Buffer.allocUnsafe(HEAD_BYTES + rest)
    bytes[0] = (idle ? IDLE : 0) | (closing ? CLOSING : 0)
    let p = bytes.writeDoubleBE(timeMs, 1)
    if (closing) {
      bytes.latin1Write(closing.row, bytes.writeDoubleBE(closing.closedMs, p))
      return bytes
    }
    for (const [source, offset] of positions ?? []) {
      p = bytes.writeUInt32BE(source, p)
      p = bytes.writeDoubleBE(offset, p)
    }
    return bytes
  },
  decode(bytes) {
    const flags = bytes[0]!
    const progress = { timeMs: bytes.readDoubleBE(1), idle: (flags & IDLE) !== 0 }
    if ((flags & TEXT) !== 0) return { ...progress, text: bytes.utf8Slice(HEAD_BYTES) }
    if ((flags & CLOSING) !== 0) {
      const closedMs = bytes.readDoubleBE(HEAD_BYTES)
      return { ...progress, closing: { closedMs, row: bytes.latin1Slice(HEAD_BYTES + 8) } }
    }
    if (bytes.length === HEAD_BYTES) return progress
    const positions = new Map<number, number>()
    for (let p = HEAD_BYTES; p < bytes.length; p += POSITION_BYTES) {
      positions.set(bytes.readUInt32BE(p), bytes.readDoubleBE(p + 4))
    }
    return { ...progress, positions }
  },
}

const HEAD_BYTES = 9
const POSITION_BYTES = 12

function encodeText(text: string): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES + Buffer.byteLength(text))
  bytes[0] = TEXT
  bytes.utf8Write(text, HEAD_BYTES)
  return bytes
}

/** Name of the store that holds the event time of a sub-topology's tasks. */
export function eventTimeStore(subTopology: string): string {
  return `event-time.${subTopology}`
}

function letter(runtime: NodeRuntime): 's' | 'x' | 'o' | undefined {
  const { node } = runtime
  if (node.kind === 'source') return 's'
  if (node.kind === 'exchange') return 'x'
  return node.kind === 'operator' && node.stores.length > 0 ? 'o' : undefined
}

/** Time and flags of this row mean nothing. */
const NODES = 'nodes'

const fedRow = (exchange: string) => `e${exchange}/0`
const changelogRow = (store: string) => `c${store}/0`

const beganRow = ({ node }: NodeRuntime) => `b${node.name}/0`
const rowOf = (runtime: NodeRuntime, index: number) =>
  `${letter(runtime)}${runtime.node.name}/${index}`

/** The changelog topic of a store: which log, and which topic of that name. */
export interface ChangelogIdentity {
  readonly incarnation: string
  readonly topicId: string
}

/** The event time of one task, as committed and as it is. */
export class EventTime {
  readonly #task: Task
  readonly #store: RowStore<Progress>
  /** By the name of their store. */
  readonly #changelogs: ReadonlyMap<string, ChangelogIdentity>
  /** What the store was last told, so that an unchanged time writes nothing. */
  readonly #stored = new Map<string, Progress>()
  /** Rows of operators that the task no longer has. */
  readonly #gone: string[] = []

  constructor(
    task: Task,
    store: RowStore<Progress>,
    changelogs: ReadonlyMap<string, ChangelogIdentity>,
  ) {
    this.#task = task
    this.#store = store
    this.#changelogs = changelogs
  }

  /** Reads what was committed into the task's watermarks and operators. */
  async load(): Promise<void> {
    for await (const chunk of this.#store.scan({ gte: ASIDE_END })) {
      for (const { key, value } of chunk) this.#stored.set(key, value)
    }
    const known = new Set(this.#operatorRows().keys())
    for (const { exchanges } of this.#task.runtimes) {
      for (const { name } of exchanges) known.add(fedRow(name))
    }
    for (const store of this.#changelogs.keys()) known.add(changelogRow(store))
    for (const key of this.#stored.keys()) {
      if (/^[oec]/.test(key) && !known.has(key)) this.#gone.push(key)
    }
    for (const runtime of this.#task.runtimes) {
      const kind = letter(runtime)
      if (kind === undefined) continue
      if (kind === 'o') {
        const own = this.#stored.get(rowOf(runtime, 0))
        if (own === undefined) continue
        runtime.watermark.resume(own.timeMs)
        runtime.closedMs = own.timeMs
        runtime.closing = own.closing
        await runtime.operator?.resume?.(own.timeMs, own.closing)
        continue
      }
      for (let i = 0; i < runtime.watermark.inputs; i++) {
        const input = this.#stored.get(rowOf(runtime, i))
        if (input !== undefined) runtime.watermark.set(i, input)
      }
      if (kind === 's') runtime.beganAt = this.#stored.get(beganRow(runtime))?.timeMs
    }
  }

  /** Names of its stateful operators that it did not have when its input was last read. */
  get added(): string[] {
    if (!this.#stored.has(NODES)) return []
    const added = [...this.#operatorRows()].filter(([row]) => !this.#stored.has(row))
    return added.map(([, name]) => name)
  }

  /** Stores whose rows went to another topic of their changelog's name, with that topic's id. */
  get recreated(): { readonly store: string; readonly was: string }[] {
    return [...this.#changelogs].flatMap(([store, { incarnation, topicId }]) => {
      const [log, was] = (this.#stored.get(changelogRow(store))?.text ?? '').split(' ')
      return log !== incarnation || was === topicId ? [] : [{ store, was: was! }]
    })
  }

  #operatorRows(): Map<string, string> {
    const operators = this.#task.runtimes.filter(runtime => letter(runtime) === 'o')
    return new Map(operators.map(runtime => [rowOf(runtime, 0), runtime.node.name]))
  }

  /** Names of its exchanges that were away while its input was read on. */
  get returned(): string[] {
    const exchanges = this.#task.runtimes.flatMap(runtime => runtime.exchanges)
    return exchanges.map(({ name }) => name).filter(name => this.#stored.get(fedRow(name))?.idle)
  }

  /** Writes what changed since the last epoch into the store's overlay. */
  save(): void {
    for (const key of this.#gone.splice(0)) {
      if (key.startsWith('e')) this.#put(key, { timeMs: 0, idle: true })
      else {
        this.#stored.delete(key)
        this.#store.delete(key)
      }
    }
    this.#put(NODES, { timeMs: 0, idle: false })
    for (const [store, { incarnation, topicId }] of this.#changelogs) {
      this.#put(changelogRow(store), { timeMs: 0, idle: false, text: `${incarnation} ${topicId}` })
    }
    for (const { exchanges } of this.#task.runtimes) {
      for (const { name } of exchanges) this.#put(fedRow(name), { timeMs: 0, idle: false })
    }
    for (const runtime of this.#task.runtimes) {
      const kind = letter(runtime)
      if (kind === undefined) continue
      if (kind === 'o') {
        const { closedMs: timeMs, closing } = runtime
        this.#put(rowOf(runtime, 0), { timeMs, idle: false, closing })
        continue
      }
      const { beganAt } = runtime
      if (kind === 's' && beganAt !== undefined)
        this.#put(beganRow(runtime), { timeMs: beganAt, idle: false })
      for (let i = 0; i < runtime.watermark.inputs; i++) {
        this.#put(rowOf(runtime, i), runtime.watermark.input(i))
      }
    }
  }

  #put(key: string, next: Progress): void {
    const last = this.#stored.get(key)
    const same = last !== undefined && sameProgress(last, next)
    if (same && last.closing === next.closing && last.text === next.text) return
    const isNothing = next.timeMs === Number.NEGATIVE_INFINITY && !next.idle
    if (isNothing && next.positions === undefined && !key.startsWith('o')) return
    this.#stored.set(key, next)
    this.#store.put(key, next)
  }
}
