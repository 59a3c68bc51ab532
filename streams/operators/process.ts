/**
 * Runs a processor of the user's, with named stores of rows and with timers.
 *
 * in     any stream; null keys leave by `null-key`
 * time   what the processor makes of it; event timers are due when the watermark reaches them
 * state  the processor's stores; one row a timer, in the order in which they are due
 * out    what it forwards, with the time of the record or timer unless it says otherwise
 * late   what the processor drops as late
 */
import { decodeTime } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull, result } from '../batch.ts'
import { type Closing, firstRows } from '../closing.ts'
import { CurrentRecord } from '../current-record.ts'
import type { Operator, OperatorContext, Outputs, SideReason, StoreSpec } from '../operator.ts'
import type {
  KeyedRows,
  Processor,
  ProcessorContext,
  ProcessorRecord,
  ProcessorStores,
  Timer,
  Want,
} from '../processor.ts'
import { json, type KeySerde } from '../serde.ts'
import { decodeTimer, type TimerClock, timerCodec, timerRow, timersDue } from '../timers.ts'

type Context = ProcessorContext<unknown, ProcessorStores, unknown, unknown>

export interface ProcessSpec {
  readonly name: string
  readonly key: KeySerde<unknown>
  readonly stores: ProcessorStores
  readonly prefetch: (
    record: ProcessorRecord<unknown, unknown>,
    want: Want<ProcessorStores>,
  ) => void
  readonly prefetchTimer: (timer: Timer<unknown>, want: Want<ProcessorStores>) => void
  readonly create: (context: Context) => Processor<unknown, unknown>
  readonly wallClock: boolean
  readonly holdsMs: number
}

const storeName = (spec: ProcessSpec, store: string) => `${spec.name}-${store}`
const timerStore = (spec: ProcessSpec) => storeName(spec, 'timers')

export function processStores(spec: ProcessSpec): StoreSpec[] {
  const stores = Object.entries(spec.stores).map(([store, { codec }]): StoreSpec => {
    const ofValues = (codec ?? json<unknown>()) as Codec<unknown>
    return { kind: 'rows', name: storeName(spec, store), codec: ofValues, refusesLarge: true }
  })
  return [...stores, { kind: 'rows', name: timerStore(spec), codec: timerCodec }]
}

export function process(spec: ProcessSpec, context: OperatorContext): Operator {
  return new Process(spec, context)
}

const NOTHING = {}

/** A write that is taken back when the record that made it fails. */
interface Undo {
  readonly store: RowStore<unknown>
  readonly row: RowKey
  readonly before: unknown
}

type Result = { readonly key: unknown; readonly value: unknown; readonly timeMs?: number }

interface Dropped {
  readonly batch: Batch
  readonly i: number
  readonly left: Left
}

/** Why a record or timer left the flow: dropped, or its processing threw. */
type Left =
  | { readonly reason: SideReason; readonly detail: string; readonly isPart?: boolean }
  | { readonly error: unknown; readonly during?: string }

class Process implements Operator {
  readonly #spec: ProcessSpec
  readonly #operator: OperatorContext
  readonly #timers: RowStore<unknown>
  readonly #stores = new Map<string, RowStore<unknown>>()
  readonly #processor: Processor<unknown, unknown>
  readonly #record: CurrentRecord
  #wanted = new Map<RowStore<unknown>, Set<RowKey>>()
  /** Made by the record or timer that is being processed. */
  #undo: Undo[] = []
  #changedTimers: { row: RowKey; timer: Timer<unknown>; added: boolean }[] = []
  #results: Result[] = []
  #left: Left | undefined
  /** The timer being called, and the due ones after it. */
  #calling: Timer<unknown> | undefined
  #due: RowKey[] = []
  /** Timers before this row are among the due ones, if there are any. */
  #dueEnd: RowKey = ''
  #nextDue = 0
  /** No timer of the clock lies before this row. */
  readonly #firedTo: Record<TimerClock, RowKey> = { event: '', wall: '' }
  #fired: Batch | undefined
  #failed: Dropped[] = []
  /** No event timer is due before this; −∞ until the first look. */
  #nextEventMs = Number.NEGATIVE_INFINITY
  readonly prepareWallClock: Operator['prepareWallClock']
  readonly onWallClock: Operator['onWallClock']

  constructor(spec: ProcessSpec, context: OperatorContext) {
    this.#spec = spec
    this.#operator = context
    this.#record = new CurrentRecord(context.origins)
    this.#timers = context.rowStore(timerStore(spec))
    for (const store of Object.keys(spec.stores)) {
      this.#stores.set(store, context.rowStore(storeName(spec, store)))
    }
    this.#processor = spec.create(this.#context())
    if (spec.wallClock) {
      this.prepareWallClock = async wallTimeMs => {
        return (await this.#fire('wall', wallTimeMs)) !== undefined
      }
      this.onWallClock = (_wallTimeMs, out) => this.#hand(out)
    }
  }

  #context(): Context {
    const operator = this.#operator
    const rows = new Map(Object.keys(this.#spec.stores).map(name => [name, this.#rows(name)]))
    return {
      store: name => rows.get(name) as KeyedRows<never, never>,
      forward: (key, value, timeMs) => {
        if (timeMs !== undefined && !Number.isSafeInteger(timeMs)) {
          throw new TypeError(`a result cannot have the time ${timeMs}: whole ms are wanted`)
        }
        this.#results.push({ key, value, ...(timeMs !== undefined && { timeMs }) })
      },
      drop: (reason, detail = '') => {
        this.#left = { reason, detail }
      },
      schedule: timer => this.#schedule(timer),
      cancel: timer => {
        this.#changedTimers.push({ row: this.#timerRow(timer), timer, added: false })
      },
      get watermarkMs() {
        return operator.watermarkMs()
      },
      get wallTimeMs() {
        return operator.wallTimeMs()
      },
    }
  }

  #rows(name: string): KeyedRows<unknown, unknown> {
    const store = this.#stores.get(name)!
    const { key: serde } = this.#spec.stores[name]!
    return {
      get: key => store.get(serde.encode(key)),
      put: (key, value) => this.#write(store, serde.encode(key), value),
      delete: key => this.#write(store, serde.encode(key), undefined),
    }
  }

  #write(store: RowStore<unknown>, row: RowKey, value: unknown): void {
    const before = store.get(row)
    if (value === undefined) store.delete(row)
    else store.put(row, value)
    this.#undo.push({ store, row, before })
  }

  #timerRow({ clock, atMs, key, name }: Timer<unknown>): RowKey {
    if (!Number.isSafeInteger(atMs)) throw new TypeError(`a timer is due at ${atMs}`)
    return timerRow({ clock, atMs, key: this.#spec.key.encode(key), name })
  }

  #schedule(timer: Timer<unknown>): void {
    const { clock, atMs, name } = timer
    if (clock === 'wall' && !this.#spec.wallClock) {
      throw new TypeError(`${this.#spec.name} has no timers by the wall clock: say wallClock`)
    }
    const calling = this.#calling
    if (calling !== undefined && calling.clock === clock && atMs <= calling.atMs) {
      throw new TypeError(`the timer ${name} of ${calling.atMs} schedules one of ${atMs}`)
    }
    this.#changedTimers.push({ row: this.#timerRow(timer), timer, added: true })
  }

  #changeTimers(): void {
    for (const { row, timer, added } of this.#changedTimers) {
      const { clock, atMs } = timer
      const due = this.#calling?.clock === clock && row < this.#dueEnd
      if (added) this.#timers.put(row, NOTHING)
      else this.#timers.delete(row)
      if (added && row < this.#firedTo[clock]) this.#firedTo[clock] = row
      if (due) this.#changeDue(row, added)
      else if (added && clock === 'event') this.#nextEventMs = Math.min(this.#nextEventMs, atMs)
    }
  }

  /** Adds a timer to those that are still to be called, or takes it from them. */
  #changeDue(row: RowKey, added: boolean): void {
    const due = this.#due
    let at = this.#nextDue
    for (let end = due.length; at < end; ) {
      const middle = (at + end) >>> 1
      if (due[middle]! < row) at = middle + 1
      else end = middle
    }
    const found = due[at] === row
    if (added && !found) due.splice(at, 0, row)
    if (!added && found) due.splice(at, 1)
  }

  /** Settles what a call made: kept when it returned, taken back when it threw. */
  #settle(call: () => void): Left | undefined {
    this.#undo = []
    this.#changedTimers = []
    this.#results = []
    this.#left = undefined
    try {
      call()
      this.#changeTimers()
      return this.#left && this.#inPart(this.#left)
    } catch (error) {
      for (const { store, row, before } of this.#undo.reverse()) {
        if (before === undefined) store.delete(row)
        else store.putBack(row, before)
      }
      this.#results = []
      return { error }
    }
  }

  /** What is dropped with writes, timers or results of its own is kept in part. */
  #inPart(left: Left): Left {
    const made = this.#undo.length + this.#changedTimers.length + this.#results.length
    return 'error' in left ? left : { ...left, isPart: made > 0 }
  }

  readonly #want: Want<ProcessorStores> = (name, key) => {
    const store = this.#stores.get(name)!
    const row = this.#spec.stores[name]!.key.encode(key)
    const rows = this.#wanted.get(store)
    if (rows === undefined) this.#wanted.set(store, new Set([row]))
    else rows.add(row)
  }

  /** Reads the rows wanted; undefined when all are in memory. */
  #read(): Promise<unknown> | undefined {
    let reading: Promise<void>[] | undefined
    for (const [store, rows] of this.#wanted) {
      const read = store.prefetch(rows)
      if (read !== undefined) (reading ??= []).push(read)
    }
    this.#wanted = new Map()
    return reading && Promise.all(reading)
  }

  prepare(input: Batch): Promise<void> | undefined {
    input.keys.forEach((key, i) => {
      if (!isNull(key)) this.#spec.prefetch(this.#record.at(input, i), this.#want)
    })
    return this.#read()?.then(() => {})
  }

  process(input: Batch, _port: number, out: Outputs): void {
    const results = input.successor({})
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i])) {
        out.drop(input, i, 'null-key')
        continue
      }
      const left = this.#settle(() => this.#processor.process(this.#record.at(input, i)))
      for (const { key, value, timeMs } of this.#results) {
        results.derive(input, i, key, value)
        if (timeMs !== undefined) results.times[results.length - 1] = timeMs
      }
      if (left !== undefined) leave(out, { batch: input, i, left })
    }
    out.main = results
  }

  prepareClose(watermarkMs: number): Promise<Closing | undefined> | undefined {
    return watermarkMs < this.#nextEventMs ? undefined : this.#fireEvent(watermarkMs)
  }

  async #fireEvent(watermarkMs: number): Promise<Closing | undefined> {
    const next = await this.#fire('event', watermarkMs)
    if (next !== undefined) {
      this.#nextEventMs = decodeTime(next, 1)
      return { closedMs: this.#nextEventMs - 1, row: '' }
    }
    this.#nextEventMs = Number.POSITIVE_INFINITY
    const { lt: gte } = timersDue('event', watermarkMs)
    for await (const [first] of this.#timers.scan({ gte, lt: 'f', limit: 1 })) {
      this.#nextEventMs = decodeTime(first!.key, 1)
    }
    return undefined
  }

  /**
   * Calls the timers due, in order, those that they add and that are due, too; so many of them at
   * most. Resolves with the first that is left.
   */
  async #fire(clock: TimerClock, timeMs: number): Promise<RowKey | undefined> {
    const { gte, lt } = timersDue(clock, timeMs)
    // Deleted rows are passed over one by one until the database has cleaned up.
    const firedTo = this.#firedTo[clock]
    const range = { gte: firedTo > gte ? firedTo : gte, lt }
    const { closeRowsMax } = this.#operator
    const { rows, left } = await firstRows(this.#timers, range, closeRowsMax)
    const due = rows.map(({ key }) => key)
    this.#due = due
    this.#dueEnd = left?.key ?? lt
    for (const row of due) this.#spec.prefetchTimer(this.#timer(row), this.#want)
    await this.#read()
    for (this.#nextDue = 0; this.#nextDue < Math.min(due.length, closeRowsMax); ) {
      const row = due[this.#nextDue++]!
      const timer = this.#timer(row)
      this.#spec.prefetchTimer(timer, this.#want)
      const reading = this.#read()
      if (reading !== undefined) await reading
      this.#timers.delete(row)
      this.#call(timer)
    }
    const rest = due[this.#nextDue]
    this.#firedTo[clock] = rest ?? this.#dueEnd
    return rest ?? left?.key
  }

  #timer(row: RowKey): Timer<unknown> {
    const timer = decodeTimer(row)
    return { ...timer, key: this.#spec.key.decode(timer.key) }
  }

  #call(timer: Timer<unknown>): void {
    const fired = (this.#fired ??= new Batch())
    this.#calling = timer
    const left = this.#settle(() => this.#processor.onTimer?.(timer))
    this.#calling = undefined
    for (const { key, value, timeMs = timer.atMs } of this.#results) {
      fired.emit(result(key, value, timeMs))
    }
    if (left === undefined) return
    // A timer is no record; one is made for it, so that its failure is seen and counted.
    const batch = new Batch()
    batch.emit(result(timer.key, null, timer.atMs))
    const during = `timer ${timer.name}`
    const detail = 'error' in left ? '' : `${during}: ${left.detail}`
    this.#failed.push({ batch, i: 0, left: { ...left, during, detail } })
  }

  #hand(out: Outputs): void {
    for (const failed of this.#failed) leave(out, failed)
    out.main = this.#fired
    this.#failed = []
    this.#fired = undefined
  }

  close(_watermarkMs: number, out: Outputs): void {
    this.#hand(out)
  }

  forwardedWatermark(watermarkMs: number): number {
    return watermarkMs - this.#spec.holdsMs
  }
}

function leave(out: Outputs, { batch, i, left }: Dropped): void {
  if ('error' in left) out.fail(batch, i, left.error, left)
  else if (left.isPart) out.dropPart(batch, i, left.reason, left.detail)
  else out.drop(batch, i, left.reason, left.detail)
}
