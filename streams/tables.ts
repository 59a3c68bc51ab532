/** Tables in the DSL: what makes one, and joins with one. */
import type { Codec } from '../state/port.ts'
import { streamsError } from './errors.ts'
import { type StreamTableJoinSpec, streamTableJoin } from './operators/stream-table-join.ts'
import { type TableSpec, table, tableStores } from './operators/table.ts'
import { type TableJoinSpec, tableJoin, tableJoinStores } from './operators/table-join.ts'
import { json, type KeySerde, type ValueSerde } from './serde.ts'
import { Stream } from './stream.ts'
import { Table } from './table.ts'
import { type VersionedOptions, versionedTable } from './versioned.ts'

export interface TableOptions<K, V> {
  /** Names the table's store, changelog and metrics. */
  readonly name: string
  readonly key: KeySerde<K>
  readonly value: ValueSerde<V>
  /** Keeps the values that were, so that views answer as of any time of the history. */
  readonly versioned?: Omit<VersionedOptions, 'value'>
}

function invalid(name: string, reason: string): never {
  throw streamsError('TOPOLOGY_INVALID', { reason: `${name}: ${reason}` })
}

/** The last value of each key; null deletes. */
export function tableOf<K, V>(
  stream: Stream<K, V>,
  options: TableOptions<K, V>,
  order: TableSpec['order'],
): Table<K, V> {
  if (stream.rekeyed) {
    invalid(
      options.name,
      'the stream was re-keyed, so its records are not where their keys belong: repartition it',
    )
  }
  const { versioned } = options
  if (versioned !== undefined) {
    return versionedTable(stream, {
      name: options.name,
      versioned,
      key: options.key as KeySerde<unknown>,
      value: options.value as ValueSerde<unknown>,
      state: wholeValue(options.value as ValueSerde<unknown>),
      add: (_before, value) => value,
      lastOnly: true,
    })
  }
  const spec: TableSpec = {
    name: options.name,
    key: options.key as KeySerde<unknown>,
    value: options.value as ValueSerde<unknown>,
    order,
  }
  const node = stream.topology.add({
    kind: 'operator',
    name: options.name,
    type: 'table',
    parents: [stream.edge],
    create: context => table(spec, context),
    stores: tableStores(spec),
    identity: spec.key.name,
    emission: 'updates',
    timeDependent: false,
    ...(order === 'offset' && { keepsLast: true }),
  })
  const versions = { edge: stream.edge, value: spec.value }
  const source = { store: options.name, key: spec.key, stored: 'table' as const, versions }
  return new Table(stream.topology, { node, output: 'main' }, source)
}

/** A serde as the codec of a value that has its bytes for itself. */
function wholeValue(serde: ValueSerde<unknown>): Codec<unknown> {
  return {
    encode: value => serde.encode(value),
    decode: bytes => serde.decode(bytes, 0, bytes.length),
  }
}

export interface TableJoinRequest<K, L, R, V> {
  readonly kind: TableJoinSpec['kind']
  readonly left: Table<K, L>
  readonly right: Table<K, R>
  readonly joiner: (left: L, right: R, key: K) => V
  readonly options: { readonly name: string; readonly codec?: Codec<V> }
}

export function joinTables<K, L, R, V>(request: TableJoinRequest<K, L, R, V>): Table<K, V> {
  const { kind, left, right, joiner, options } = request
  for (const { source } of [left, right]) {
    if (source.stored !== 'table') {
      invalid(options.name, `${source.store} has windows; only tables of plain keys are joined`)
    }
  }
  if (left.source.key.name !== right.source.key.name) {
    invalid(
      options.name,
      `${left.source.store} writes its keys as ${left.source.key.name}, ${right.source.store} as ${right.source.key.name}: one key would be two`,
    )
  }
  const spec: TableJoinSpec = {
    name: options.name,
    kind,
    key: left.source.key,
    inputs: [left.source.store, right.source.store],
    joiner: joiner as TableJoinSpec['joiner'],
    codec: (options.codec ?? json<V>()) as Codec<unknown>,
  }
  const node = left.topology.add({
    kind: 'operator',
    name: options.name,
    type: `${kind}-table-join`,
    parents: [left.edge, right.edge],
    create: context => tableJoin(spec, context),
    stores: tableJoinStores(spec),
    identity: spec.key.name,
    emission: 'updates',
    timeDependent: false,
  })
  const source = { store: options.name, key: left.source.key, stored: 'table' as const }
  return new Table(left.topology, { node, output: 'main' }, source)
}

export interface StreamTableJoinRequest<K, V, R, V2> {
  readonly kind: StreamTableJoinSpec['kind']
  readonly stream: Stream<K, V>
  readonly table: Table<K, R>
  readonly joiner: (value: V, row: R, key: K) => V2
}

export function joinTable<K, V, R, V2>(
  request: StreamTableJoinRequest<K, V, R, V2>,
): Stream<K, V2> {
  const { kind, stream, table: joined, joiner } = request
  const { store, key, stored } = joined.source
  if (stream.rekeyed) invalid(store, 'the stream joined with it was re-keyed: repartition it first')
  if (stored !== 'table')
    invalid(store, 'it has windows; a stream is joined with a table of plain keys')
  const spec: StreamTableJoinSpec = {
    kind,
    table: store,
    key,
    joiner: joiner as StreamTableJoinSpec['joiner'],
  }
  const node = stream.topology.add({
    kind: 'operator',
    name: stream.topology.anonymous(`${kind}-stream-table-join`),
    type: `${kind}-stream-table-join`,
    parents: [stream.edge, joined.edge],
    passivePorts: [1],
    create: context => streamTableJoin(spec, context),
    stores: [],
    emission: 'records',
    timeDependent: false,
  })
  return new Stream(stream.topology, { node, output: 'main' })
}
