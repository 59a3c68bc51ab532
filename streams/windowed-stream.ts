/** `WindowedStream`, `SlidingStream`, `SessionStream`: grouped records in windows of event time. */
import type { Codec } from '../state/port.ts'
import { streamsError } from './errors.ts'
import type { GroupedStream } from './grouped-stream.ts'
import {
  type SessionAggregateSpec,
  sessionAggregate,
  sessionAggregateStores,
} from './operators/session-aggregate.ts'
import {
  type SlidingAggregateSpec,
  slidingAggregate,
  slidingAggregateStores,
} from './operators/sliding-aggregate.ts'
import { type TopEntry, type TopKSpec, topK, topKStores } from './operators/top-k.ts'
import {
  type WindowAggregateSpec,
  windowAggregate,
  windowAggregateStores,
} from './operators/window-aggregate.ts'
import { type Ranked, rankedKey } from './ranked-key.ts'
import { json, type KeySerde, type ValueSerde } from './serde.ts'
import { Table } from './table.ts'
import type { SessionWindows, SlidingWindows, TimeWindows, Windowed } from './windows.ts'

export interface Aggregation<K, V, A> {
  /** Store, changelog topic, metric label and view: one name. */
  readonly name: string
  readonly initial: () => A
  /**
   * Returns the new aggregate and leaves the old one as it is, unless the codec is mutable: then
   * it may change and return it, but not after it has begun to fail. A RangeError is an overflow.
   */
  readonly add: (aggregate: A, value: V, key: K) => A
  /** How the aggregate is stored; JSON unless given. */
  readonly codec?: Codec<A>
  /** `update` (each change) or `close` (once, final): `suppress` in Kafka Streams. */
  readonly emit?: 'update' | 'close'
  /**
   * How long windows stay queryable after their end; at least, and by default, the grace (of
   * sessions: gap and grace).
   */
  readonly retentionMs?: number
}

export interface SessionAggregation<K, V, A> extends Aggregation<K, V, A> {
  /** One aggregate of two that a record has joined; equal however the parts are grouped. */
  readonly merge: (left: A, right: A, key: K) => A
}

/** The records of open windows are kept, as `value` writes them; JSON unless given. */
interface KeptRecords<V> {
  readonly value?: ValueSerde<V>
}

export type SlidingAggregation<K, V, A> = Aggregation<K, V, A> & KeptRecords<V>

export interface TopAggregation<K, V, A> extends Aggregation<K, V, A> {
  /** Ranks shown of each key and window. */
  readonly k: number
  /** What is ranked: records of one item are added to one aggregate. */
  readonly item: (value: V, key: K) => string
  /** The aggregate of an item; null takes the item out. */
  readonly add: (aggregate: A, value: V, key: K) => A
  /** A finite number: the largest is rank 1; equal ones are ordered by their item. */
  readonly score: (aggregate: A) => number
}

type Named<T> = Omit<T, 'initial' | 'add' | 'merge'>
export type Reduction<K, V> = Named<Aggregation<K, V, V>> & {
  /** The first value of a window is its aggregate. */
  readonly reduce: (aggregate: V, value: V, key: K) => V
}

/** `reduce` as an aggregation: undefined stands for no value yet. */
function ofReduction<K, V>(reduction: Reduction<K, V>): SessionAggregation<K, V, V> {
  const { reduce } = reduction
  const add = (before: V | undefined, value: V, key: K) =>
    before === undefined ? value : reduce(before, value, key)
  return { ...reduction, initial: () => undefined as V, add, merge: reduce }
}

export class WindowedStream<K, V> {
  readonly grouped: GroupedStream<K, V>
  readonly windows: TimeWindows

  constructor(grouped: GroupedStream<K, V>, windows: TimeWindows) {
    this.grouped = grouped
    this.windows = windows
  }

  count(options: Named<Aggregation<K, V, number>>): Table<Windowed<K>, number> {
    return this.aggregate({ ...options, initial: () => 0, add: count => count + 1 })
  }

  reduce(reduction: Reduction<K, V>): Table<Windowed<K>, V> {
    return this.aggregate(ofReduction(reduction))
  }

  aggregate<A>(aggregation: Aggregation<K, V, A>): Table<Windowed<K>, A> {
    const { windows } = this
    const key = this.grouped.key as KeySerde<unknown>
    const spec: WindowAggregateSpec = {
      ...windowedSpec(aggregation, key, windows.graceMs),
      windows,
    }
    const node = this.grouped.stream.topology.add({
      kind: 'operator',
      name: aggregation.name,
      type: 'window-aggregate',
      parents: [this.grouped.stream.edge],
      create: context => windowAggregate(spec, context),
      stores: windowAggregateStores(spec),
      identity: `${spec.key.name} ${windows.sizeMs} by ${windows.advanceMs}`,
      emission: spec.emit === 'close' ? 'final' : 'updates',
      timeDependent: true,
    })
    return new Table(
      this.grouped.stream.topology,
      { node, output: 'main' },
      {
        store: aggregation.name,
        key,
        stored: 'window',
        windowSizeMs: windows.sizeMs,
        graceMs: windows.graceMs,
      },
    )
  }

  /**
   * The `k` items of each key and window with the highest scores, exactly: scores may rise and
   * fall. Rows have the key's fields and `rank`, from 1; only ranks that change are written.
   */
  topK<A>(aggregation: TopAggregation<K, V, A>): Table<Windowed<Ranked<K>>, TopEntry<A>> {
    const { windows } = this
    const { name, k, item, score } = aggregation
    if (!(Number.isSafeInteger(k) && k >= 1 && k <= 1000)) {
      const reason = `${name}: k must be a whole number of 1 to 1000, got ${k}`
      throw streamsError('TOPOLOGY_INVALID', { reason })
    }
    const key = rankedKey(this.grouped.key) as KeySerde<unknown>
    const spec: TopKSpec = {
      ...windowedSpec(aggregation, this.grouped.key as KeySerde<unknown>, windows.graceMs),
      windows,
      k,
      item: item as TopKSpec['item'],
      score: score as TopKSpec['score'],
    }
    const { topology, edge } = this.grouped.stream
    const node = topology.add({
      kind: 'operator',
      name,
      type: 'top-k',
      parents: [edge],
      create: context => topK(spec, context),
      stores: topKStores(spec),
      identity: `${this.grouped.key.name} ${this.windows.sizeMs} by ${this.windows.advanceMs}`,
      emission: spec.emit === 'close' ? 'final' : 'updates',
      timeDependent: true,
    })
    const { sizeMs: windowSizeMs, graceMs } = windows
    const source = { store: name, key, stored: 'window' as const, windowSizeMs, graceMs }
    return new Table(topology, { node, output: 'main' }, source)
  }
}

const NOTHING: Buffer = Buffer.alloc(0)

/** Records of each key in windows that the records themselves define. */
export class SlidingStream<K, V> {
  readonly grouped: GroupedStream<K, V>
  readonly windows: SlidingWindows

  constructor(grouped: GroupedStream<K, V>, windows: SlidingWindows) {
    this.grouped = grouped
    this.windows = windows
  }

  count(options: Named<Aggregation<K, V, number>>): Table<Windowed<K>, number> {
    // Counting needs the times of records, not what they say.
    const value: ValueSerde<V> = { encode: () => NOTHING, decode: () => null as V }
    return this.aggregate({ ...options, initial: () => 0, add: count => count + 1, value })
  }

  reduce(reduction: Reduction<K, V> & KeptRecords<V>): Table<Windowed<K>, V> {
    return this.aggregate({ ...ofReduction(reduction), value: reduction.value })
  }

  /** Values are added in the order of event time, whatever the order of arrival. */
  aggregate<A>(aggregation: SlidingAggregation<K, V, A>): Table<Windowed<K>, A> {
    const { differenceMs, graceMs } = this.windows
    const { name } = aggregation
    const key = this.grouped.key as KeySerde<unknown>
    const spec: SlidingAggregateSpec = {
      ...windowedSpec(aggregation, key, graceMs),
      windows: this.windows,
      value: (aggregation.value ?? json<V>()) as ValueSerde<unknown>,
    }
    const { topology, edge } = this.grouped.stream
    const node = topology.add({
      kind: 'operator',
      name,
      type: 'sliding-aggregate',
      parents: [edge],
      create: context => slidingAggregate(spec, context),
      stores: slidingAggregateStores(spec),
      identity: `${key.name} difference ${differenceMs}`,
      emission: spec.emit === 'close' ? 'final' : 'updates',
      timeDependent: true,
    })
    const windowSizeMs = differenceMs + 1
    const source = { store: name, key, stored: 'window' as const, windowSizeMs, graceMs }
    return new Table(topology, { node, output: 'main' }, source)
  }
}

/** Records of each key in sessions: runs of events no more than the gap apart. */
export class SessionStream<K, V> {
  readonly grouped: GroupedStream<K, V>
  readonly windows: SessionWindows

  constructor(grouped: GroupedStream<K, V>, windows: SessionWindows) {
    this.grouped = grouped
    this.windows = windows
  }

  count(options: Named<Aggregation<K, V, number>>): Table<Windowed<K>, number> {
    const merge = (left: number, right: number) => left + right
    return this.aggregate({ ...options, initial: () => 0, add: count => count + 1, merge })
  }

  reduce(reduction: Reduction<K, V>): Table<Windowed<K>, V> {
    return this.aggregate(ofReduction(reduction))
  }

  /** `windowEnd` of a result is its last event; a merge deletes the results it joins. */
  aggregate<A>(aggregation: SessionAggregation<K, V, A>): Table<Windowed<K>, A> {
    const { windows } = this
    const { gapMs, graceMs } = windows
    const key = this.grouped.key as KeySerde<unknown>
    const { name } = aggregation
    const spec: SessionAggregateSpec = {
      ...windowedSpec(aggregation, key, gapMs + graceMs),
      windows,
      merge: aggregation.merge as SessionAggregateSpec['merge'],
    }
    const { topology, edge } = this.grouped.stream
    const node = topology.add({
      kind: 'operator',
      name,
      type: 'session-aggregate',
      parents: [edge],
      create: context => sessionAggregate(spec, context),
      stores: sessionAggregateStores(spec),
      identity: `${spec.key.name} gap ${spec.windows.gapMs}`,
      emission: spec.emit === 'close' ? 'final' : 'updates',
      timeDependent: true,
    })
    const source = { store: name, key, stored: 'session' as const, gapMs, graceMs }
    return new Table(topology, { node, output: 'main' }, source)
  }
}

/** What windows and sessions share; `leastMs` is how long a window still takes records. */
function windowedSpec<K, V, A>(
  aggregation: Aggregation<K, V, A>,
  key: KeySerde<unknown>,
  leastMs: number,
) {
  const { name, retentionMs = leastMs } = aggregation
  if (retentionMs < leastMs) {
    throw streamsError('TOPOLOGY_INVALID', {
      reason: `${name} keeps windows for ${retentionMs} ms but takes records for ${leastMs} ms after their end: its retention must be at least that`,
    })
  }
  return {
    name,
    key,
    initial: aggregation.initial,
    add: aggregation.add as WindowAggregateSpec['add'],
    codec: (aggregation.codec ?? json<A>()) as Codec<unknown>,
    emit: aggregation.emit ?? ('update' as const),
    retentionMs,
  }
}
