/**
 * `Stream`, the first of the fluent types. Methods have Kafka Streams' names and only add a node
 * to the topology; what a node does is in its operator file.
 */

import { type AsOfOptions, joinAsOf } from './as-of.ts'
import type { RecordContext } from './current-record.ts'
import { type GlobalOptions, type GlobalTable, joinGlobal } from './global-table.ts'
import { GroupedStream } from './grouped-stream.ts'
import { type Joiner, type JoinOptions, joinStreams } from './join.ts'
import type { SideReason } from './operator.ts'
import { filter } from './operators/filter.ts'
import { flatMap } from './operators/flat-map.ts'
import { type MapSpec, map } from './operators/map.ts'
import type { SequenceMatch } from './operators/match-sequence.ts'
import { merge } from './operators/merge.ts'
import {
  type DeduplicateOptions,
  deduplicateStream,
  type ProcessOptions,
  processStream,
} from './processing.ts'
import type { ProcessorStores } from './processor.ts'
import type { RetryPolicy } from './retries.ts'
import { matchSequenceOf, type SequenceOptions } from './sequence.ts'
import { type KeySerde, plain, type ValueSerde } from './serde.ts'
import type { Table } from './table.ts'
import { joinTable, type TableOptions, tableOf } from './tables.ts'
import type { Edge, SinkHeaders, Topology } from './topology.ts'
import { type WindowRowsOptions, windowRowsOf } from './window-rows.ts'
import type { Windowed } from './windows.ts'

export interface StreamOptions<K, V> {
  readonly key: KeySerde<K>
  readonly value: ValueSerde<V>
}

/** How records are written to a topic. */
export interface SinkOptions<K, V> extends StreamOptions<K, V> {
  /**
   * Headers that a written record has beside those of the record it comes from, and instead of
   * those with the same name. Undefined: none of its own.
   */
  readonly headers?: (value: V, key: K) => Readonly<Record<string, string>> | undefined
  readonly retry?: RetryPolicy
}

/** Names an exchange and says how its keys, and where need be its values, are written. */
export interface Grouping<K, V = never> {
  readonly name: string
  readonly key: KeySerde<K>
  /**
   * For values that cross to another instance: the source's own while the values are unchanged,
   * else `plain()`, unless given. Needed where values are instances of classes.
   */
  readonly value?: ValueSerde<V>
  readonly partitions?: number
}

export interface FilterOptions {
  readonly name?: string
  /** Names of the messages that pass, if that is what it tells apart: for documents. */
  readonly messages?: readonly string[]
}

type Step = Pick<
  import('./topology.ts').OperatorNode,
  'type' | 'create' | 'stores' | 'emission' | 'timeDependent' | 'messages'
>

export function stateless(type: string, create: Step['create']): Step {
  return { type, create, stores: [], emission: 'records', timeDependent: false }
}

export class Stream<K, V> {
  readonly topology: Topology
  readonly edge: Edge
  readonly options: StreamOptions<K, V> | undefined
  /** True once the key may differ from the one that decided the partition. */
  readonly rekeyed: boolean

  constructor(topology: Topology, edge: Edge, options?: StreamOptions<K, V>, rekeyed = false) {
    this.topology = topology
    this.edge = edge
    this.options = options
    this.rekeyed = rekeyed
  }

  step<K2, V2>(
    step: Step & { name?: string },
    rekeyed: boolean,
    options?: StreamOptions<K2, V2>,
  ): Stream<K2, V2> {
    const node = this.topology.add({
      kind: 'operator',
      name: this.topology.anonymous(step.type),
      parents: [this.edge],
      ...step,
    })
    return new Stream(this.topology, { node, output: 'main' }, options, rekeyed)
  }

  /** `name`: what dead letters of a predicate that throws say, generated unless given. */
  filter(keep: (value: V, key: K) => boolean, options: FilterOptions = {}): Stream<K, V> {
    const spec = { keep: keep as (value: unknown, key: unknown) => boolean }
    return this.step(
      { ...stateless('filter', () => filter(spec)), ...options },
      this.rekeyed,
      this.options,
    )
  }

  /** Keeps the records of a type, and tells the compiler. */
  only<T extends V>(keep: (value: V) => value is T, options: FilterOptions = {}): Stream<K, T> {
    return this.filter(value => keep(value), options) as unknown as Stream<K, T>
  }

  map<K2, V2>(pair: (value: V, key: K) => readonly [K2, V2]): Stream<K2, V2> {
    const spec = { pair: pair as MapSpec['pair'] }
    return this.step(
      stateless('map', context => map(spec, context)),
      true,
    )
  }

  /** `record` has time, headers and place of the record, and is valid during the call. */
  mapValues<V2>(value: (value: V, key: K, record: RecordContext) => V2): Stream<K, V2> {
    const spec = { value: value as MapSpec['value'] }
    return this.step(
      stateless('map-values', context => map(spec, context)),
      this.rekeyed,
    )
  }

  selectKey<K2>(key: (value: V, key: K) => K2): Stream<K2, V> {
    const spec = { key: key as (value: unknown, key: unknown) => unknown }
    return this.step(
      stateless('select-key', context => map(spec, context)),
      true,
    )
  }

  flatMap<K2, V2>(expand: (value: V, key: K) => Iterable<readonly [K2, V2]>): Stream<K2, V2> {
    const spec = { expand } as unknown as Parameters<typeof flatMap>[0]
    return this.step(
      stateless('flat-map', () => flatMap(spec)),
      true,
    )
  }

  merge(...others: Stream<K, V>[]): Stream<K, V> {
    return this.mergeWith(others, [])
  }

  /**
   * `merge`, with the event time of this stream alone: a step below waits for no other, and may
   * get their records after its watermark has passed them. For what answers this stream's own
   * results, whose time would otherwise wait for itself.
   */
  mergePassive(...others: Stream<K, V>[]): Stream<K, V> {
    const ports = others.map((_, i) => i + 1)
    return this.mergeWith(others, ports)
  }

  private mergeWith(others: Stream<K, V>[], passivePorts: readonly number[]): Stream<K, V> {
    const node = this.topology.add({
      kind: 'operator',
      name: this.topology.anonymous('merge'),
      parents: [this, ...others].map(stream => stream.edge),
      passivePorts,
      ...stateless('merge', merge),
    })
    const rekeyed = this.rekeyed || others.some(other => other.rekeyed)
    return new Stream(this.topology, { node, output: 'main' }, this.options, rekeyed)
  }

  /** One stream a branch: a record goes to the first whose predicate holds, or to the rest. */
  split(...branches: ((value: V, key: K) => boolean)[]): Stream<K, V>[] {
    const first = (value: V, key: K) => branches.findIndex(branch => branch(value, key))
    return [...branches.keys(), -1].map(i => this.filter((v, k) => first(v, k) === i))
  }

  /** A result for each pair within the time distance; see `JoinOptions`. */
  join<R, V2>(right: Stream<K, R>, joiner: Joiner<K, V, R, V2>, options: JoinOptions<K, V, R>) {
    return joinStreams({ kind: 'inner', left: this, right, joiner, options })
  }

  /** `join`, and a result with null for each left record that gets no partner in time. */
  leftJoin<R, V2>(
    right: Stream<K, R>,
    joiner: Joiner<K, V, R | null, V2>,
    options: JoinOptions<K, V, R>,
  ) {
    return joinStreams({ kind: 'left', left: this, right, joiner, options })
  }

  /** `leftJoin`, and the same for right records. */
  outerJoin<R, V2>(
    right: Stream<K, R>,
    joiner: Joiner<K, V | null, R | null, V2>,
    options: JoinOptions<K, V, R>,
  ) {
    return joinStreams({ kind: 'outer', left: this, right, joiner: joiner as never, options })
  }

  /** The last value of each key, by event time and not by arrival; null deletes. */
  toTable(options: TableOptions<K, V>): Table<K, V> {
    return tableOf(this, options, 'time')
  }

  /** Rows with windows of their own, for results that are final when they come. */
  toWindows(options: WindowRowsOptions<K, V>): Table<Windowed<K>, V> {
    return windowRowsOf(this, options)
  }

  /** A result for each record whose key has a row in the table, as far as it has been read. */
  joinTable<R, V2>(table: Table<K, R>, joiner: Joiner<K, V, R, V2>): Stream<K, V2> {
    return joinTable({ kind: 'inner', stream: this, table, joiner })
  }

  /** A result for each record, with null where its key has no row. */
  leftJoinTable<R, V2>(table: Table<K, R>, joiner: Joiner<K, V, R | null, V2>): Stream<K, V2> {
    return joinTable({ kind: 'left', stream: this, table, joiner: joiner as never })
  }

  /** A result for each record that finds a row of the global table; see `GlobalOptions`. */
  joinGlobal<G, R, V2>(
    table: GlobalTable<G, R>,
    joiner: Joiner<K, V, R, V2>,
    options: GlobalOptions<K, V, G>,
  ): Stream<K, V2> {
    return joinGlobal({ kind: 'inner', stream: this, table, joiner, options })
  }

  /** `joinGlobal` with a result for each record, with null where it finds no row. */
  leftJoinGlobal<G, R, V2>(
    table: GlobalTable<G, R>,
    joiner: Joiner<K, V, R | null, V2>,
    options: GlobalOptions<K, V, G>,
  ): Stream<K, V2> {
    return joinGlobal({ kind: 'left', stream: this, table, joiner: joiner as never, options })
  }

  /** A result for each record whose key had a row in the table at the record's time. */
  joinAsOf<R, V2>(
    table: Table<K, R>,
    joiner: Joiner<K, V, R, V2>,
    options: AsOfOptions<K, V>,
  ): Stream<K, V2> {
    return joinAsOf({ kind: 'inner', stream: this, table, joiner, options })
  }

  /** `joinAsOf` with a result for each record, with null where its key had no row. */
  leftJoinAsOf<R, V2>(
    table: Table<K, R>,
    joiner: Joiner<K, V, R | null, V2>,
    options: AsOfOptions<K, V>,
  ): Stream<K, V2> {
    return joinAsOf({ kind: 'left', stream: this, table, joiner: joiner as never, options })
  }

  /** A step of one's own, with stores and timers; see `ProcessOptions`. */
  process<S extends ProcessorStores, K2 = K, V2 = V>(
    options: ProcessOptions<K, V, S, K2, V2>,
  ): Stream<K2, V2> {
    return processStream(this, options)
  }

  /** Lets the first record of each id pass; the others leave by `duplicate`. */
  deduplicate(options: DeduplicateOptions<K, V>): Stream<K, V> {
    return deduplicateStream(this, options)
  }

  /** A result for records of a key that match the steps, in the order of event time. */
  matchSequence<S extends string>(
    options: SequenceOptions<K, V, S>,
  ): Stream<K, SequenceMatch<V, S>> {
    return matchSequenceOf(this, options)
  }

  /** Moves each record to the task that owns its key's partition. */
  repartition(grouping: Grouping<K, V>): Stream<K, V> {
    const from = this.edge.output === 'main' ? this : this.merge()
    const node = this.topology.add({
      kind: 'exchange',
      name: grouping.name,
      parents: [from.edge],
      key: grouping.key as KeySerde<unknown>,
      value: (grouping.value ?? this.options?.value ?? plain()) as ValueSerde<unknown>,
      partitions: grouping.partitions,
    })
    const options = this.options && { ...this.options, key: grouping.key }
    return new Stream(this.topology, { node, output: 'main' }, options)
  }

  groupBy<K2>(key: (value: V, key: K) => K2, grouping: Grouping<K2, V>): GroupedStream<K2, V> {
    const stream = this.selectKey(key).repartition(grouping)
    return new GroupedStream(stream, grouping.key)
  }

  /** Groups by the key as it is; moves records only where the key was changed before. */
  groupByKey(grouping: Grouping<K, V>): GroupedStream<K, V> {
    return new GroupedStream(this.rekeyed ? this.repartition(grouping) : this, grouping.key)
  }

  /** How often the step before tries a record again that failed with a retriable error. */
  retry(policy: RetryPolicy): this {
    this.topology.retry(this.edge.node, policy)
    return this
  }

  /** Writes every record to a topic, partitioned by key. */
  to(topic: string, options: SinkOptions<K, V>): void {
    const node = this.topology.add({
      kind: 'sink',
      name: topic,
      parents: [this.edge],
      topic,
      key: options.key as KeySerde<unknown>,
      value: options.value as ValueSerde<unknown>,
      headers: options.headers as SinkHeaders | undefined,
    })
    if (options.retry !== undefined) this.topology.retry(node, options.retry)
  }

  /** Records that the step before took out of the flow, for this reason. */
  side(reason: SideReason): Stream<K, V> {
    const edge: Edge = { node: this.edge.node, output: reason }
    return new Stream<K, V>(this.topology, edge, undefined, true)
  }
}
