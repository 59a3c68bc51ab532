/** Versioned tables and aggregates in the DSL. */
import { streamsError } from './errors.ts'
import {
  type VersionedSpec,
  versionedAggregate,
  versionedStores,
} from './operators/versioned-aggregate.ts'
import type { ValueSerde } from './serde.ts'
import type { Stream } from './stream.ts'
import { Table } from './table.ts'
import type { Replay } from './versioned-row.ts'

export interface VersionedOptions {
  /**
   * Event time for which what was is kept, ms, Infinity for ever. A record is late when it is more
   * than this before the stream time of its own source partition.
   */
  readonly historyMs: number
  /** How the records of an aggregate are kept; `plain()` unless given. */
  readonly value?: ValueSerde<unknown>
  /**
   * Bytes of records that a key keeps, 512 KiB unless given: of more, the older half is added up
   * and forgotten, and the history of that key begins behind it.
   */
  readonly bytesMax?: number
}

const BYTES_MAX = 512 * 1024

interface VersionedRequest extends Replay {
  readonly versioned: VersionedOptions
}

export function versionedTable<K, V, A>(
  stream: Stream<K, V>,
  { versioned, ...replay }: VersionedRequest,
): Table<K, A> {
  const { name } = replay
  const { historyMs, bytesMax = BYTES_MAX } = versioned
  const isTime = Number.isSafeInteger(historyMs) || historyMs === Number.POSITIVE_INFINITY
  if (!(isTime && historyMs > 0)) invalid(name, 'historyMs', historyMs)
  if (!(Number.isSafeInteger(bytesMax) && bytesMax > 0)) invalid(name, 'bytesMax', bytesMax)
  const spec: VersionedSpec = { ...replay, historyMs, bytesMax }
  const node = stream.topology.add({
    kind: 'operator',
    name,
    type: replay.lastOnly ? 'versioned-table' : 'versioned-aggregate',
    parents: [stream.edge],
    create: context => versionedAggregate(spec, context),
    stores: versionedStores(spec),
    identity: `${spec.key.name} versioned`,
    emission: 'updates',
    timeDependent: true,
  })
  const source = {
    store: name,
    key: spec.key,
    stored: 'table' as const,
    versioned: { historyMs },
    ...(replay.lastOnly && { versions: { edge: stream.edge, value: replay.value } }),
  }
  return new Table(stream.topology, { node, output: 'main' }, source)
}

function invalid(name: string, field: string, value: number): never {
  const reason = `${name}: ${field} must be a whole number above 0, got ${value}`
  throw streamsError('TOPOLOGY_INVALID', { reason })
}
