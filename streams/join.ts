/** Joins in the DSL: what `Stream.join`, `leftJoin` and `outerJoin` add to a topology. */
import { streamsError } from './errors.ts'
import { type StreamJoinSpec, streamJoin, streamJoinStores } from './operators/stream-join.ts'
import type { KeySerde, ValueSerde } from './serde.ts'
import { Stream, type StreamOptions } from './stream.ts'

export interface JoinOptions<K, L, R> {
  /** Names the stores, changelogs and metrics of the join. */
  readonly name: string
  /** A right record joins from this long before the left one … */
  readonly beforeMs: number
  /** … until this long after it. */
  readonly afterMs: number
  readonly graceMs: number
  /** How each side is written; taken from the stream where its records are as they were read. */
  readonly left?: StreamOptions<K, L>
  readonly right?: StreamOptions<K, R>
  /**
   * Time of a result: the later of the pair (default), or the right record's. With `right`
   * each right record is expected to have one left partner.
   */
  readonly time?: 'max' | 'right'
}

export type Joiner<K, L, R, V> = (left: L, right: R, key: K) => V

export interface JoinRequest<K, L, R, V> {
  readonly kind: StreamJoinSpec['kind']
  readonly left: Stream<K, L>
  readonly right: Stream<K, R>
  readonly joiner: Joiner<K, L, R, V> | Joiner<K, L, R | null, V>
  readonly options: JoinOptions<K, L, R>
}

export function joinStreams<K, L, R, V>(request: JoinRequest<K, L, R, V>): Stream<K, V> {
  const { kind, left, right, options } = request
  const invalid = (reason: string): never => {
    throw streamsError('TOPOLOGY_INVALID', { reason: `${options.name}: ${reason}` })
  }
  for (const stream of [left, right]) {
    if (stream.rekeyed) {
      invalid('a side was re-keyed, so its records are not where their keys belong: repartition it')
    }
  }
  const ofLeft =
    options.left ?? left.options ?? invalid('say with `left` how the left side is written')
  const ofRight =
    options.right ?? right.options ?? invalid('say with `right` how the right side is written')
  for (const [field, ms] of Object.entries({ ...options, name: undefined })) {
    if (typeof ms === 'number' && !(Number.isSafeInteger(ms) && ms >= 0)) {
      invalid(`${field} must be a whole number of ms, got ${ms}`)
    }
  }
  const spec: StreamJoinSpec = {
    name: options.name,
    kind,
    beforeMs: options.beforeMs,
    afterMs: options.afterMs,
    graceMs: options.graceMs,
    key: ofLeft.key as KeySerde<unknown>,
    values: [ofLeft.value as ValueSerde<unknown>, ofRight.value as ValueSerde<unknown>],
    joiner: request.joiner as StreamJoinSpec['joiner'],
    time: options.time ?? 'max',
  }
  const node = left.topology.add({
    kind: 'operator',
    name: options.name,
    type: `${kind}-join`,
    parents: [left.edge, right.edge],
    create: context => streamJoin(spec, context),
    stores: streamJoinStores(spec),
    identity: `${spec.key.name} -${spec.beforeMs} +${spec.afterMs} grace ${spec.graceMs} ${spec.time}`,
    emission: kind === 'inner' ? 'records' : 'final',
    timeDependent: true,
  })
  return new Stream(left.topology, { node, output: 'main' })
}
