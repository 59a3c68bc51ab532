/** Reads what a topology has written to a topic, decoded. */
import type { EventLog } from '../../log/port.ts'
import { decodeBatches, type RecordColumns } from '../../log/record-columns.ts'
import { readHeaders } from '../../log/record-headers.ts'
import { assert } from '../errors.ts'
import type { KeySerde, ValueSerde } from '../serde.ts'

export interface OutputRecord<K, V> {
  readonly key: K | null
  readonly value: V | null
  readonly timeMs: number
  readonly partition: number
  readonly headers: Readonly<Record<string, string>>
}

export interface ReadSerdes<K, V> {
  readonly key: KeySerde<K>
  readonly value: ValueSerde<V>
}

export interface ReadTopicOptions<K, V> {
  readonly log: Pick<EventLog, 'fetch' | 'describeTopic'>
  readonly topic: string
  readonly serdes: ReadSerdes<K, V>
  /** Next offset by `topic/partition`; moved on by what is read. */
  readonly positions: Map<string, number>
}

/** The records behind the positions, partition by partition. */
export async function readTopic<K, V>(
  options: ReadTopicOptions<K, V>,
): Promise<OutputRecord<K, V>[]> {
  const { log, topic, serdes, positions } = options
  const records: OutputRecord<K, V>[] = []
  const description = await log.describeTopic(topic)
  assert(description !== undefined, `the topic ${topic} exists`)
  for (let partition = 0; partition < description.partitions; partition++) {
    const id = `${topic}/${partition}`
    for (;;) {
      const offset = positions.get(id) ?? 0
      const [response] = await log.fetch([{ topic, partition, offset, bytesMax: 1 << 20 }])
      const { bytes, nextOffset } = response!
      if (nextOffset === offset) break
      positions.set(id, nextOffset)
      for (const columns of decodeBatches(bytes, { fromOffset: offset }).runs) {
        for (let i = 0; i < columns.length; i++) {
          records.push({ ...decodeRecord(columns, i, serdes), partition })
        }
      }
    }
  }
  return records
}

function decodeRecord<K, V>(columns: RecordColumns, i: number, serdes: ReadSerdes<K, V>) {
  const { bytes } = columns
  const keyStart = columns.keyStart[i]!
  const valueStart = columns.valueStart[i]!
  const row = keyStart < 0 ? null : bytes.latin1Slice(keyStart, columns.keyEnd[i]!)
  return {
    key: row === null ? null : serdes.key.decode(row),
    value: valueStart < 0 ? null : serdes.value.decode(bytes, valueStart, columns.valueEnd[i]!),
    timeMs: columns.timestamps[i]!,
    headers: Object.fromEntries(
      readHeaders(columns, i).map(([name, value]) => [name, value?.toString() ?? '']),
    ),
  }
}
