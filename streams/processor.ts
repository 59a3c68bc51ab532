/**
 * What a processor is and what it is given: a step of one's own, with stores and timers.
 *
 * A processor is called synchronously, one record or timer after the other. What it reads has
 * been read before: the rows that `prefetch` names for a record, `prefetchTimer` for a timer.
 * All it remembers must be in its stores; a field of its own is lost with the process, and
 * differs after an epoch that is tried again.
 *
 * A record whose processing throws leaves by `poison` (a RangeError: `overflow`) and has changed
 * nothing: its writes, timers and results are taken back. Values are not to be changed in place.
 */
import type { Codec } from '../state/port.ts'
import type { RecordContext } from './current-record.ts'
import type { SideReason } from './operator.ts'
import type { KeySerde } from './serde.ts'
import type { TimerClock } from './timers.ts'

export interface ProcessorStore<K, V> {
  readonly key: KeySerde<K>
  /** JSON unless given. */
  readonly codec?: Codec<V>
}

export type ProcessorStores = Readonly<Record<string, ProcessorStore<unknown, unknown>>>
export type StoreKey<S> = S extends { readonly key: KeySerde<infer K> } ? K : never
/** What its codec writes; unknown where a store has none. */
export type StoreValue<S> = S extends { readonly codec: Codec<infer V> }
  ? V
  : S extends ProcessorStore<never, infer V>
    ? V
    : unknown

/** The rows of one store, as far as they were named for this record or timer. */
export interface KeyedRows<K, V> {
  get(key: K): V | undefined
  put(key: K, value: V): void
  delete(key: K): void
}

export interface Timer<K> {
  /** `event`: due when the watermark reaches `atMs`. `wall`: when the clock does. */
  readonly clock: TimerClock
  readonly atMs: number
  readonly key: K
  /** Tells apart timers of one key and time. */
  readonly name: string
}

/** A record; valid during the call. */
export interface ProcessorRecord<K, V> extends RecordContext {
  readonly key: K
  readonly value: V
}

/** Names a row to read. */
export type Want<S extends ProcessorStores> = <N extends keyof S & string>(
  store: N,
  key: StoreKey<S[N]>,
) => void

export interface ProcessorContext<K, S extends ProcessorStores, K2, V2> {
  store<N extends keyof S & string>(name: N): KeyedRows<StoreKey<S[N]>, StoreValue<S[N]>>
  /** Sends a result on, with the record's time (or the timer's) unless another is given. */
  forward(key: K2, value: V2, timeMs?: number): void
  /** Takes the record out of the flow: counted, to the side output or the dead letters. */
  drop(reason: SideReason, detail?: string): void
  /**
   * Adds a timer; one that is there already stays. While a timer is called, new timers of its
   * clock must be later than it: those that are due are called next, in order of their times.
   */
  schedule(timer: Timer<K>): void
  cancel(timer: Timer<K>): void
  /** Event time up to which all that was not late has been processed. Depends on progress. */
  readonly watermarkMs: number
  readonly wallTimeMs: number
}

export interface Processor<K, V> {
  process(record: ProcessorRecord<K, V>): void
  onTimer?(timer: Timer<K>): void
}
