/** Processors and deduplication in the DSL. */
import type { TProperties } from 'typebox'
import { streamsError } from './errors.ts'
import { deduplicate, deduplicateStores, type RecordId } from './operators/deduplicate.ts'
import { type ProcessSpec, process, processStores } from './operators/process.ts'
import type {
  Processor,
  ProcessorContext,
  ProcessorRecord,
  ProcessorStores,
  StoreKey,
  StoreValue,
  Timer,
  Want,
} from './processor.ts'
import type { KeySerde } from './serde.ts'
import { Stream, type StreamOptions } from './stream.ts'
import { Table, type TableStore, type ViewOptions } from './table.ts'

export interface ProcessOptions<K, V, S extends ProcessorStores, K2, V2> {
  /** Names the step; its stores are `name-store` and `name-timers`. */
  readonly name: string
  /** How keys of timers are written. */
  readonly key: KeySerde<K>
  readonly stores: S
  /** Names the rows that `process` reads or writes; a record's key in every store unless given. */
  readonly prefetch?: (record: ProcessorRecord<K, V>, want: Want<S>) => void
  /** The same of `onTimer`; the timer's key in every store unless given. */
  readonly prefetchTimer?: (timer: Timer<K>, want: Want<S>) => void
  /** Called once a task, and anew after each failed epoch. */
  readonly create: (context: ProcessorContext<K, S, K2, V2>) => Processor<K, V>
  /** Allows timers by the wall clock, which are looked at about once a second. */
  readonly wallClock?: boolean
  /**
   * The longest that a result may come after its own time, by event time: windows below wait
   * for so much longer. 0 unless given, which is right for results with their record's time or
   * their event timer's.
   */
  readonly holdsMs?: number
  /** Stores that are served as views: the rows as they are, or as `row` makes them. */
  readonly views?: readonly StoreView<S>[]
  /** How results are written: types them, and joins below need not be told again. */
  readonly results?: StreamOptions<K2, V2>
  /** True when results have the key of their record or timer, so that they stay in their task. */
  readonly keepsKeys?: boolean
}

/** A store of a processor as a view; its key is the store's. */
export type StoreView<S extends ProcessorStores> = {
  readonly [N in keyof S & string]: { readonly store: N } & ViewOptions<
    StoreKey<S[N]>,
    StoreValue<S[N]>,
    TProperties
  >
}[keyof S & string]

function invalid(name: string, reason: string): never {
  throw streamsError('TOPOLOGY_INVALID', { reason: `${name}: ${reason}` })
}

function duration(name: string, field: string, ms: number): void {
  if (!(Number.isSafeInteger(ms) && ms >= 0)) {
    invalid(name, `${field} must be a whole number of ms, got ${ms}`)
  }
}

export function processStream<K, V, S extends ProcessorStores, K2, V2>(
  stream: Stream<K, V>,
  options: ProcessOptions<K, V, S, K2, V2>,
): Stream<K2, V2> {
  const { name, stores, holdsMs = 0 } = options
  duration(name, 'holdsMs', holdsMs)
  if ('timers' in stores) invalid(name, 'a store cannot be named timers: that is where timers are')
  const names = Object.keys(stores)
  const wantKey = ({ key }: { key: unknown }, want: Want<ProcessorStores>) => {
    for (const store of names) want(store, key as never)
  }
  const spec: ProcessSpec = {
    name,
    key: options.key as KeySerde<unknown>,
    stores,
    prefetch: (options.prefetch as ProcessSpec['prefetch'] | undefined) ?? wantKey,
    prefetchTimer: (options.prefetchTimer as ProcessSpec['prefetchTimer'] | undefined) ?? wantKey,
    create: options.create as unknown as ProcessSpec['create'],
    wallClock: options.wallClock ?? false,
    holdsMs,
  }
  const node = stream.topology.add({
    kind: 'operator',
    name,
    type: 'process',
    parents: [stream.edge],
    create: context => process(spec, context),
    stores: processStores(spec),
    emission: 'records',
    timeDependent: false,
  })
  for (const { store, ...view } of options.views ?? []) {
    const source: TableStore = {
      store: `${name}-${store}`,
      key: stores[store]!.key,
      stored: 'table',
      untimed: true,
    }
    new Table(stream.topology, { node, output: 'main' }, source).view(view as never)
  }
  const rekeyed = stream.rekeyed || options.keepsKeys !== true
  return new Stream(stream.topology, { node, output: 'main' }, options.results, rekeyed)
}

export interface DeduplicateOptions<K, V> {
  readonly name: string
  /**
   * What tells a record: a header's name, or a function. Null, undefined or a missing header:
   * the record passes. Copies have to meet in one task: they do when they have the same key.
   */
  readonly id: { readonly header: string } | ((value: V, key: K) => string | null | undefined)
  /** How long an id is remembered, in stream time of the records' own source partitions, ms. */
  readonly ttlMs: number
}

export function deduplicateStream<K, V>(
  stream: Stream<K, V>,
  options: DeduplicateOptions<K, V>,
): Stream<K, V> {
  const { name, ttlMs } = options
  duration(name, 'ttlMs', ttlMs)
  const spec = { name, id: options.id as RecordId, ttlMs }
  const node = stream.topology.add({
    kind: 'operator',
    name,
    type: 'deduplicate',
    parents: [stream.edge],
    create: context => deduplicate(spec, context),
    stores: deduplicateStores(spec),
    emission: 'records',
    timeDependent: true,
  })
  const edge = { node, output: 'main' as const }
  return new Stream(stream.topology, edge, stream.options, stream.rekeyed)
}
