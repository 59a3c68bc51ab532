/**
 * Global tables in the DSL. A table is sent whole to each task of the step that joins it: every
 * task has all rows in a store of its own, restored like any before the task runs, so a record is
 * joined by whatever key its value tells, without being moved.
 */
import { type StreamTableJoinSpec, streamTableJoin } from './operators/stream-table-join.ts'
import type { KeySerde, ValueSerde } from './serde.ts'
import { Stream, type StreamOptions } from './stream.ts'
import { tableOf } from './tables.ts'

/** For small tables that change seldom: their rows are kept once a task. */
export class GlobalTable<K, V> {
  readonly stream: Stream<K, V>
  readonly options: StreamOptions<K, V>

  constructor(stream: Stream<K, V>, options: StreamOptions<K, V>) {
    this.stream = stream
    this.options = options
  }
}

export interface GlobalOptions<K, V, G> {
  /** Names the join, the store of the rows (`name-rows`) and the exchange that they come by. */
  readonly name: string
  /** The key in the table that a record is joined by; null or undefined for none. */
  readonly by: (value: V, key: K) => G | null | undefined
}

export interface GlobalRequest<K, V, G, R, V2> {
  readonly kind: StreamTableJoinSpec['kind']
  readonly stream: Stream<K, V>
  readonly table: GlobalTable<G, R>
  readonly joiner: (value: V, row: R, key: K) => V2
  readonly options: GlobalOptions<K, V, G>
}

export function joinGlobal<K, V, G, R, V2>(request: GlobalRequest<K, V, G, R, V2>): Stream<K, V2> {
  const { kind, stream, table, joiner, options } = request
  const { name, by } = options
  const { topology } = stream
  const { key, value } = table.options
  const arrived = topology.add({
    kind: 'exchange',
    name: `${name}-copies`,
    parents: [table.stream.edge],
    key: key as KeySerde<unknown>,
    value: value as ValueSerde<unknown>,
    partitions: undefined,
    partitionsOf: stream.edge.node,
    broadcast: true,
  })
  const copies = new Stream<G, R>(topology, { node: arrived, output: 'main' }, table.options)
  // All writes of a key come from one partition of one topic.
  const rows = tableOf(copies, { name: `${name}-rows`, key, value }, 'offset')
  const spec: StreamTableJoinSpec = {
    kind,
    table: rows.source.store,
    key: key as KeySerde<unknown>,
    keyOf: by as StreamTableJoinSpec['keyOf'],
    joiner: joiner as StreamTableJoinSpec['joiner'],
  }
  const node = topology.add({
    kind: 'operator',
    name,
    type: `${kind}-global-join`,
    parents: [stream.edge, rows.edge],
    passivePorts: [1],
    create: context => streamTableJoin(spec, context),
    stores: [],
    emission: 'records',
    timeDependent: false,
  })
  return new Stream(topology, { node, output: 'main' }, undefined, stream.rekeyed)
}
