/**
 * What tests against other clients share: records as every client can show them, one line each,
 * and the ways to read a topic. Text is bytes (latin1), so that equal lines are equal bytes.
 */
import type { Codec } from '../../../log/compression.ts'
import type { KafkaLog } from '../../../log/kafka/index.ts'
import { decodeBatches, type RecordColumns } from '../../../log/record-columns.ts'
import { readHeaders } from '../../../log/record-headers.ts'
import { readCommitted } from '../../support/kafka/read-committed.ts'
import type { SharedKafka } from '../../support/kafka/shared.ts'
import { toolClasses } from '../../support/kafka/tool.ts'

/** Record lines of each partition, in order: `timestamp key value name=header …`. */
export type Lines = readonly (readonly string[])[]

type Text = Uint8Array | string | null | undefined

export interface ShownRecord {
  readonly timestampMs: number
  readonly key: Text
  readonly value: Text
  readonly headers?: readonly (readonly [name: string, value: Text])[]
}

function shown(text: Text): string {
  if (text === null || text === undefined) return 'null'
  return `'${Buffer.from(text as string).latin1Slice()}'`
}

export function lineOf({ timestampMs, key, value, headers = [] }: ShownRecord): string {
  const names = headers.map(([name, bytes]) => ` ${shown(name)}=${shown(bytes)}`)
  return `${timestampMs} ${shown(key)} ${shown(value)}${names.join('')}`
}

interface ReadTopic {
  /** By partition, in order. */
  readonly records: readonly (readonly ReadRecord[])[]
  /** Of the batches that have records. */
  readonly codecs: readonly Codec[]
}

type ReadRecord = ShownRecord & { readonly key: Buffer | null; readonly value: Buffer | null }

export function linesOf(records: readonly (readonly ShownRecord[])[]): Lines {
  return records.map(ofPartition => ofPartition.map(lineOf))
}

/** What the driver reads, to the high watermark. */
export async function readByMillrace(log: KafkaLog, topic: string): Promise<ReadTopic> {
  const { partitions } = (await log.describeTopic(topic))!
  const codecs = new Set<Codec>()
  const records: ReadRecord[][] = []
  for (let partition = 0; partition < partitions; partition++) {
    const target = { topic, partition }
    const [range] = await log.offsets([target])
    const ofPartition: ReadRecord[] = []
    for (let offset = 0; offset < range!.highWatermark; ) {
      const request = { ...target, offset, bytesMax: 1e6 }
      const [answer] = await log.fetch([request], { waitMsMax: 30_000 })
      const { batches, runs } = decodeBatches(answer!.bytes, { fromOffset: offset })
      for (const { codec, isControl } of batches) if (!isControl) codecs.add(codec)
      ofPartition.push(...runs.flatMap(recordsOf))
      offset = answer!.nextOffset
    }
    records.push(ofPartition)
  }
  return { records, codecs: [...codecs] }
}

function recordsOf(columns: RecordColumns): ReadRecord[] {
  const { bytes, timestamps, keyStart, keyEnd, valueStart, valueEnd } = columns
  const part = (start: number, end: number) => (start < 0 ? null : bytes.subarray(start, end))
  return Array.from({ length: columns.length }, (_, i) => ({
    timestampMs: timestamps[i]!,
    key: part(keyStart[i]!, keyEnd[i]!),
    value: part(valueStart[i]!, valueEnd[i]!),
    headers: readHeaders(columns, i),
  }))
}

/** What a read_committed consumer of kafkajs reads. It writes a record of its own at the end. */
export async function readByKafkajs(
  kafka: SharedKafka,
  topic: string,
  partitions: number,
): Promise<Lines> {
  const records = (await readCommitted(kafka.bootstrap, [topic])).get(topic)!
  const lines: string[][] = Array.from({ length: partitions }, () => [])
  for (const record of records) lines[record.partition]!.push(lineOf(record))
  return lines
}

const SHOWN = ['timestamp', 'partition', 'headers', 'key']
/** Between the fields of what the console consumer prints, and after its records. */
const FIELD = '\u0001'
const RECORD = '\u0002\n'

/** What Kafka's console consumer prints of `records` records, read_committed. */
export async function readByConsole(
  kafka: SharedKafka,
  topic: string,
  { partitions, records }: { readonly partitions: number; readonly records: number },
): Promise<Lines> {
  const options = {
    ...Object.fromEntries(SHOWN.map(name => [`print.${name}`, 'true'])),
    'key.separator': FIELD,
    'line.separator': RECORD,
    'headers.separator': '\u0003',
    'null.literal': '\u0004',
  }
  const { stdout, stderr, code } = await kafka.tool(toolClasses.consoleConsumer, [
    `--bootstrap-server=${kafka.bootstrap}`,
    `--topic=${topic}`,
    '--from-beginning',
    '--isolation-level=read_committed',
    `--max-messages=${records}`,
    '--timeout-ms=30000',
    ...Object.entries(options).map(pair => `--formatter-property=${pair.join('=')}`),
  ])
  if (code !== 0) throw new Error(`The console consumer ended with ${code}: ${stderr}`)
  const lines: string[][] = Array.from({ length: partitions }, () => [])
  for (const record of stdout.split(RECORD).slice(0, -1)) {
    const [time, partition, headers, key, value] = record.split(FIELD)
    const text = (field: string | undefined) => (field === '\u0004' ? null : field)
    const pairs = headers === 'NO_HEADERS' ? [] : headers!.split('\u0003')
    lines[Number(partition!.replace('Partition:', ''))]!.push(
      lineOf({
        timestampMs: Number(time!.replace('CreateTime:', '')),
        key: text(key),
        value: text(value),
        headers: pairs.map(pair => {
          const at = pair.indexOf(':')
          return [pair.slice(0, at), text(pair.slice(at + 1))] as const
        }),
      }),
    )
  }
  return lines
}
