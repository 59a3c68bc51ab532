/** Rows with windows of their own in the DSL: what `Stream.toWindows` adds to a topology. */
import type { Codec } from '../state/port.ts'
import { streamsError } from './errors.ts'
import {
  type WindowBounds,
  type WindowRowsSpec,
  windowRows,
  windowRowsStores,
} from './operators/window-rows.ts'
import { json, type KeySerde } from './serde.ts'
import type { Stream } from './stream.ts'
import { Table } from './table.ts'
import type { Windowed } from './windows.ts'

export interface WindowRowsOptions<K, V> {
  /** Names the table's store, changelog and metrics. */
  readonly name: string
  readonly key: KeySerde<K>
  /** The window of a record, `[start, end)`, epoch ms. */
  readonly window: (value: V, key: K) => WindowBounds
  readonly codec?: Codec<V>
  /** How long rows stay after the start of their window, event time; Infinity for ever. */
  readonly retentionMs: number
}

export function windowRowsOf<K, V>(
  stream: Stream<K, V>,
  options: WindowRowsOptions<K, V>,
): Table<Windowed<K>, V> {
  const { name, retentionMs } = options
  if (stream.rekeyed) {
    const reason = `${name}: the stream was re-keyed, so its records are not where their keys belong: repartition it`
    throw streamsError('TOPOLOGY_INVALID', { reason })
  }
  const key = options.key as KeySerde<unknown>
  const codec = (options.codec ?? json<V>()) as Codec<unknown>
  const window = options.window as WindowRowsSpec['window']
  const spec: WindowRowsSpec = { name, key, codec, window, retentionMs }
  const node = stream.topology.add({
    kind: 'operator',
    name,
    type: 'window-rows',
    parents: [stream.edge],
    create: context => windowRows(spec, context),
    stores: windowRowsStores(spec),
    emission: 'records',
    timeDependent: false,
  })
  // No size: each row says where its window ends, and is final.
  const source = { store: name, key, stored: 'window' as const }
  return new Table(stream.topology, { node, output: 'main' }, source)
}
