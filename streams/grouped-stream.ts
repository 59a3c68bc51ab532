/** `GroupedStream`: records by key, each where its key belongs; what can be made of them. */
import type { Codec } from '../state/port.ts'
import { streamsError } from './errors.ts'
import { type AggregateSpec, aggregate, aggregateStores } from './operators/aggregate.ts'
import { json, type KeySerde, plain } from './serde.ts'
import type { Stream } from './stream.ts'
import { Table } from './table.ts'
import { type VersionedOptions, versionedTable } from './versioned.ts'
import type { Replay } from './versioned-row.ts'
import { SessionStream, SlidingStream, WindowedStream } from './windowed-stream.ts'
import type { SessionWindows, SlidingWindows, TimeWindows } from './windows.ts'

export interface AggregateOptions<A> {
  /** Store, changelog topic, metric label and view: one name. */
  readonly name: string
  /** How the aggregate is stored; JSON unless given. */
  readonly codec?: Codec<A>
  /**
   * A row leaves the table when the watermark is more than this after its latest event, ms.
   * A record counts to the row if its own stream time is no more than this after that event;
   * otherwise it starts anew. Kept for ever unless given.
   */
  readonly ttlMs?: number
}

/** Options of an aggregate without windows. */
export interface TableAggregateOptions<A> extends AggregateOptions<A> {
  /**
   * Keeps the records, so that views answer as of any time of the history, and adds them in the
   * order of event time, whenever they come. Not with `ttlMs`.
   */
  readonly versioned?: VersionedOptions
}

export interface TableAggregation<K, V, A> extends TableAggregateOptions<A> {
  readonly initial: () => A
  /**
   * Returns the new aggregate, or null to delete the row. It leaves the old aggregate as it is
   * unless the codec is mutable; a RangeError is an overflow.
   */
  readonly add: (aggregate: A, value: V, key: K) => A | null
}

export interface TableReduction<K, V> extends TableAggregateOptions<V> {
  /** The first value of a key is its aggregate. Null deletes the row. */
  readonly reduce: (aggregate: V, value: V, key: K) => V | null
}

export class GroupedStream<K, V> {
  readonly stream: Stream<K, V>
  readonly key: KeySerde<K>

  constructor(stream: Stream<K, V>, key: KeySerde<K>) {
    this.stream = stream
    this.key = key
  }

  /** Tumbling, hopping or sliding windows, or sessions. */
  windowedBy(windows: TimeWindows): WindowedStream<K, V>
  windowedBy(windows: SessionWindows): SessionStream<K, V>
  windowedBy(windows: SlidingWindows): SlidingStream<K, V>
  windowedBy(windows: TimeWindows | SessionWindows | SlidingWindows) {
    if (windows.kind === 'sliding') return new SlidingStream(this, windows)
    if (windows.kind === 'session') return new SessionStream(this, windows)
    return new WindowedStream(this, windows)
  }

  /** Records of each key. */
  count(options: TableAggregateOptions<number>): Table<K, number> {
    return this.aggregate({ ...options, initial: () => 0, add: count => count + 1 })
  }

  /** One value a key, made of all its values; the result depends on their order of arrival. */
  reduce(reduction: TableReduction<K, V>): Table<K, V> {
    const { reduce } = reduction
    return this.#table(reduction, (before, value, key) =>
      before === undefined ? value : reduce(before, value, key),
    )
  }

  aggregate<A>(aggregation: TableAggregation<K, V, A>): Table<K, A> {
    const { initial, add } = aggregation
    return this.#table(aggregation, (before, value, key) =>
      add(before === undefined ? initial() : before, value, key),
    )
  }

  #table<A>(
    options: TableAggregateOptions<A>,
    fold: (aggregate: A | undefined, value: V, key: K) => A | null,
  ): Table<K, A> {
    const { name, ttlMs, versioned } = options
    if (versioned !== undefined && ttlMs !== undefined) {
      const reason = `${name}: a versioned aggregate has a history, not a time to live`
      throw streamsError('TOPOLOGY_INVALID', { reason })
    }
    if (versioned !== undefined) {
      return versionedTable(this.stream, {
        name,
        versioned,
        key: this.key as KeySerde<unknown>,
        value: versioned.value ?? plain(),
        state: (options.codec ?? json<A>()) as Codec<unknown>,
        add: fold as Replay['add'],
        lastOnly: false,
      })
    }
    if (ttlMs !== undefined && !(Number.isSafeInteger(ttlMs) && ttlMs > 0)) {
      const reason = `${name}: ttlMs must be a whole number of ms above 0, got ${ttlMs}`
      throw streamsError('TOPOLOGY_INVALID', { reason })
    }
    const spec: AggregateSpec = {
      name,
      key: this.key as KeySerde<unknown>,
      fold: fold as AggregateSpec['fold'],
      codec: (options.codec ?? json<A>()) as Codec<unknown>,
      ttlMs,
    }
    const { topology, edge } = this.stream
    const node = topology.add({
      kind: 'operator',
      name,
      type: 'aggregate',
      parents: [edge],
      create: context => aggregate(spec, context),
      stores: aggregateStores(spec),
      identity: spec.key.name,
      emission: 'updates',
      timeDependent: ttlMs !== undefined,
    })
    const key = this.key as KeySerde<unknown>
    return new Table(topology, { node, output: 'main' }, { store: name, key, stored: 'table' })
  }
}
