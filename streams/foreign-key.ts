/**
 * Foreign-key joins in the DSL: what `Table.joinForeign` adds to a topology.
 *
 *     left ── subscribe ═▶ join ═▶ result         ═▶ an exchange
 *                 right ───┘
 *
 * Each left row is sent to the task of the right row it refers to and is kept there; results go
 * back to where the left key belongs. While a row changes what it refers to, the answers of two
 * tasks are on their way: each names the version of the left row it is for.
 */
import type { Codec } from '../state/port.ts'
import { streamsError } from './errors.ts'
import { messageSerde, responseSerde, routeKey } from './foreign-key-messages.ts'
import {
  type ForeignKeyJoinSpec,
  foreignKeyJoin,
  foreignKeyJoinStores,
} from './operators/foreign-key-join.ts'
import { foreignKeyResult, foreignKeyResultStores } from './operators/foreign-key-result.ts'
import {
  foreignKeySubscribe,
  type SubscribeSpec,
  subscribeStores,
} from './operators/foreign-key-subscribe.ts'
import { json, type KeySerde, plain, type ValueSerde } from './serde.ts'
import { Table } from './table.ts'

export interface ForeignKeyOptions<K, V, F, V2> {
  /** Names the result's store, and by it the steps before (`name-subscribe`, `name-join`). */
  readonly name: string
  /** The key of the other table that a row refers to; null or undefined for none. */
  readonly foreignKey: (value: V, key: K) => F | null | undefined
  /** How rows of this table are kept beside what they refer to; `plain()` unless given. */
  readonly value?: ValueSerde<V>
  /** How results are stored; JSON unless given. */
  readonly codec?: Codec<V2>
}

export interface ForeignKeyRequest<K, V, F, R, V2> {
  readonly kind: ForeignKeyJoinSpec['kind']
  readonly left: Table<K, V>
  readonly right: Table<F, R>
  readonly joiner: (left: V, right: R, key: K) => V2
  readonly options: ForeignKeyOptions<K, V, F, V2>
}

export function joinForeign<K, V, F, R, V2>(
  request: ForeignKeyRequest<K, V, F, R, V2>,
): Table<K, V2> {
  const { kind, left, right, joiner, options } = request
  const { name } = options
  const { topology } = left
  for (const { source } of [left, right]) {
    if (source.stored === 'table') continue
    const reason = `${name}: ${source.store} has windows; only tables of plain keys are joined`
    throw streamsError('TOPOLOGY_INVALID', { reason })
  }
  const { key } = left.source
  const value = (options.value ?? plain()) as ValueSerde<unknown>
  const codec = (options.codec ?? json<V2>()) as Codec<unknown>
  const foreign = right.source.key
  const updates = { kind: 'operator', emission: 'updates', timeDependent: false } as const
  const subscribe: SubscribeSpec = {
    store: `${name}-subscribe`,
    key,
    foreign,
    foreignKey: options.foreignKey as SubscribeSpec['foreignKey'],
  }
  const messages = topology.add({
    ...updates,
    name: subscribe.store,
    type: 'foreign-key-subscribe',
    parents: [left.edge],
    create: context => foreignKeySubscribe(subscribe, context),
    stores: subscribeStores(subscribe),
    identity: `${key.name} refers to ${foreign.name}`,
  })
  const arrived = topology.add({
    kind: 'exchange',
    name: `${name}-messages`,
    parents: [{ node: messages, output: 'main' }],
    key: routeKey as KeySerde<unknown>,
    value: messageSerde(value) as ValueSerde<unknown>,
    partitions: undefined,
    partitionsOf: right.edge.node,
  })
  const join: ForeignKeyJoinSpec = {
    store: `${name}-join`,
    kind,
    right: right.source.store,
    key,
    foreign,
    left: value,
    joiner: joiner as ForeignKeyJoinSpec['joiner'],
  }
  const responses = topology.add({
    ...updates,
    name: join.store,
    type: `${kind}-foreign-key-join`,
    parents: [{ node: arrived, output: 'main' }, right.edge],
    create: context => foreignKeyJoin(join, context),
    stores: foreignKeyJoinStores(join),
    identity: `${foreign.name} referred to by ${key.name}`,
  })
  const returned = topology.add({
    kind: 'exchange',
    name: `${name}-responses`,
    parents: [{ node: responses, output: 'main' }],
    key,
    value: responseSerde(codec) as ValueSerde<unknown>,
    partitions: undefined,
    partitionsOf: left.edge.node,
  })
  return resultTable(left, { name, key, codec, returned })
}

interface Result {
  readonly name: string
  readonly key: KeySerde<unknown>
  readonly codec: Codec<unknown>
  readonly returned: number
}

function resultTable<K, V, V2>(
  { topology }: Table<K, V>,
  { name, key, codec, returned }: Result,
): Table<K, V2> {
  const value: ValueSerde<unknown> = {
    encode: one => codec.encode(one),
    decode: (bytes, start, end) => codec.decode(bytes.subarray(start, end)),
  }
  const spec = { name, key, value }
  const node = topology.add({
    kind: 'operator',
    name,
    type: 'foreign-key-result',
    parents: [{ node: returned, output: 'main' }],
    create: context => foreignKeyResult(spec, context),
    stores: foreignKeyResultStores(spec),
    identity: key.name,
    emission: 'updates',
    timeDependent: false,
  })
  return new Table(topology, { node, output: 'main' }, { store: name, key, stored: 'table' })
}
