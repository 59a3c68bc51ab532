/** As-of joins in the DSL: what `Stream.joinAsOf` adds to a topology. */
import { streamsError } from './errors.ts'
import { type AsOfJoinSpec, asOfJoin, asOfJoinStores } from './operators/as-of-join.ts'
import type { KeySerde, ValueSerde } from './serde.ts'
import { Stream, type StreamOptions } from './stream.ts'
import type { Table } from './table.ts'

export interface AsOfOptions<K, V> {
  /** Names the step, its stores (`name-versions`, `name-waiting`), changelogs and metrics. */
  readonly name: string
  /**
   * How far records of either side may be behind the stream time of their source partition, ms. A
   * record of the stream is late beyond it, one of the table holds from then on only.
   */
  readonly graceMs: number
  /**
   * True unless given: a record waits until no version can come any more that it should see, so
   * that the result is the same however fast the table is read. False: it is joined at once with
   * what has been read of the table.
   */
  readonly waits?: boolean
  /** How the stream's records are written; taken from it where they are as they were read. */
  readonly written?: StreamOptions<K, V>
}

export interface AsOfRequest<K, V, R, V2> {
  readonly kind: AsOfJoinSpec['kind']
  readonly stream: Stream<K, V>
  readonly table: Table<K, R>
  readonly joiner: (value: V, row: R, key: K) => V2
  readonly options: AsOfOptions<K, V>
}

export function joinAsOf<K, V, R, V2>(request: AsOfRequest<K, V, R, V2>): Stream<K, V2> {
  const { kind, stream, table, joiner, options } = request
  const { name, graceMs, waits = true } = options
  const invalid = (reason: string): never => {
    throw streamsError('TOPOLOGY_INVALID', { reason: `${name}: ${reason}` })
  }
  if (stream.rekeyed) {
    invalid(
      'the stream was re-keyed, so its records are not where their keys belong: repartition it',
    )
  }
  const { store, key, versions } = table.source
  if (versions === undefined) {
    return invalid(`${store} is computed; only tables of a topic or a stream have versions`)
  }
  const written =
    options.written ?? stream.options ?? invalid('say with `written` how records are written')
  if (written.key.name !== key.name) {
    invalid(
      `the stream writes its keys as ${written.key.name}, ${store} as ${key.name}: one key would be two`,
    )
  }
  if (!(Number.isSafeInteger(graceMs) && graceMs >= 0)) {
    invalid(`graceMs must be a whole number of ms, got ${graceMs}`)
  }
  const spec: AsOfJoinSpec = {
    name,
    kind,
    key: key as KeySerde<unknown>,
    values: [written.value as ValueSerde<unknown>, versions.value],
    graceMs,
    waits,
    joiner: joiner as AsOfJoinSpec['joiner'],
  }
  const node = stream.topology.add({
    kind: 'operator',
    name,
    type: `${kind}-as-of-join`,
    parents: [stream.edge, versions.edge],
    ...(waits ? {} : { passivePorts: [1] }),
    create: context => asOfJoin(spec, context),
    stores: asOfJoinStores(spec),
    identity: `${key.name} as of, grace ${graceMs}${waits ? '' : ' at once'}`,
    emission: waits ? 'final' : 'records',
    timeDependent: true,
  })
  return new Stream(stream.topology, { node, output: 'main' })
}
