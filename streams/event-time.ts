/**
 * Event time is state (law 1): each task's source stream times, idle flags, exchange watermarks
 * and operator watermarks are rows of a store of their own, committed with the epoch and
 * loaded before the task takes a record.
 *
 * Row key: kind letter, name, index. `s` source topic, `x` exchange input (upstream
 * partition), `o` stateful operator. Row value, version 1, integers big-endian:
 *
 *     value = idle:uint8 time:float64 (source:uint32 offset:float64)*
 *
 * The positions (law 18) are those of inputs whose other end is on another instance.
 */
import type { Codec, RowStore } from '../state/port.ts'
import type { NodeRuntime, Task } from './task.ts'
import { type InputProgress, sameProgress } from './watermark.ts'

export const progressCodec: Codec<InputProgress> = {
  encode({ timeMs, idle, positions }) {
    const bytes = Buffer.allocUnsafe(HEAD_BYTES + (positions?.size ?? 0) * POSITION_BYTES)
    bytes[0] = idle ? 1 : 0
    let p = bytes.writeDoubleBE(timeMs, 1)
    for (const [source, offset] of positions ?? []) {
      p = bytes.writeUInt32BE(source, p)
      p = bytes.writeDoubleBE(offset, p)
    }
    return bytes
  },
  decode(bytes) {
    const progress = { timeMs: bytes.readDoubleBE(1), idle: bytes[0] === 1 }
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

const rowOf = (runtime: NodeRuntime, index: number) =>
  `${letter(runtime)}${runtime.node.name}/${index}`

/** The event time of one task, as committed and as it is. */
export class EventTime {
  readonly #task: Task
  readonly #store: RowStore<InputProgress>
  /** What the store was last told, so that an unchanged time writes nothing. */
  readonly #stored = new Map<string, InputProgress>()

  constructor(task: Task, store: RowStore<InputProgress>) {
    this.#task = task
    this.#store = store
  }

  /** Reads what was committed into the task's watermarks and operators. */
  async load(): Promise<void> {
    for await (const chunk of this.#store.scan({})) {
      for (const { key, value } of chunk) this.#stored.set(key, value)
    }
    for (const runtime of this.#task.runtimes) {
      const kind = letter(runtime)
      if (kind === undefined) continue
      if (kind === 'o') {
        const own = this.#stored.get(rowOf(runtime, 0))
        if (own === undefined) continue
        runtime.watermark.resume(own.timeMs)
        runtime.closedMs = own.timeMs
        await runtime.operator?.resume?.(own.timeMs)
        continue
      }
      for (let i = 0; i < runtime.watermark.inputs; i++) {
        const input = this.#stored.get(rowOf(runtime, i))
        if (input !== undefined) runtime.watermark.set(i, input)
      }
    }
  }

  /** Writes what changed since the last epoch into the store's overlay. */
  save(): void {
    for (const runtime of this.#task.runtimes) {
      const kind = letter(runtime)
      if (kind === undefined) continue
      if (kind === 'o') {
        this.#put(rowOf(runtime, 0), { timeMs: runtime.closedMs, idle: false })
        continue
      }
      for (let i = 0; i < runtime.watermark.inputs; i++) {
        this.#put(rowOf(runtime, i), runtime.watermark.input(i))
      }
    }
  }

  #put(key: string, next: InputProgress): void {
    const last = this.#stored.get(key)
    if (last !== undefined && sameProgress(last, next)) return
    if (next.timeMs === Number.NEGATIVE_INFINITY && !next.idle) return
    this.#stored.set(key, next)
    this.#store.put(key, next)
  }
}
