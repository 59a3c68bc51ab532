/** Recordings in memory, and logs to record from. */
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import type { TopicPartition } from '../../log/port.ts'
import { VERSION } from '../../recording/format.ts'
import type { RecordingFile } from '../../recording/port.ts'
import { openRecording, type Recording, readBlock, spanRecords } from '../../recording/reader.ts'
import {
  describeTopics,
  nextOffsets,
  type RecordFrom,
  type RecordOptions,
  record,
  resumeWriter,
} from '../../recording/recorder.ts'
import { RecordingWriter } from '../../recording/writer.ts'
import { makeBatch, type TestRecord } from '../log/batches.ts'
import { environment, openOnMemory } from '../log/embedded/environment.ts'

export class MemoryFile implements RecordingFile {
  readonly path = 'run.mrec'
  bytes: Buffer
  /** Appends beyond it fail half way. */
  sizeMax = Number.POSITIVE_INFINITY

  constructor(bytes: Buffer = Buffer.alloc(0)) {
    this.bytes = Buffer.from(bytes)
  }

  async size(): Promise<number> {
    return this.bytes.length
  }

  async read(position: number, length: number): Promise<Buffer> {
    return Buffer.from(this.bytes.subarray(position, position + length))
  }

  async append(bytes: Buffer): Promise<void> {
    const room = Math.max(0, this.sizeMax - this.bytes.length)
    this.bytes = Buffer.concat([this.bytes, bytes.subarray(0, room)])
    if (room < bytes.length) throw new Error('ENOSPC: no space left on device')
  }

  async truncate(size: number): Promise<void> {
    this.bytes = this.bytes.subarray(0, size)
  }

  async sync(): Promise<void> {}
  async close(): Promise<void> {}
}

export async function append(
  log: EmbeddedLog,
  target: TopicPartition,
  records: readonly TestRecord[],
): Promise<void> {
  const transaction = log.begin()
  transaction.append(target, makeBatch(records))
  await transaction.commit()
}

/** A log with `orders` (2 partitions, `batches` of 3 records each) and an empty topic. */
export async function smallLog(batches = 4) {
  const world = await openOnMemory()
  const log = world.log as EmbeddedLog
  await log.createTopic('orders', 2)
  await log.createTopic('empty', 1)
  for (let i = 0; i < batches; i++) {
    for (const partition of [0, 1]) {
      const records = [0, 1, 2].map(j => {
        const timestampMs = 1000 * i + 100 * partition + 10 * j
        return { key: `k${i}${j}`, value: `p${partition}-${i}-${j}`.repeat(20), timestampMs }
      })
      await append(log, { topic: 'orders', partition }, records)
    }
  }
  return { log, dispose: world.dispose }
}

export interface Recordable {
  readonly topics?: readonly string[]
  readonly from?: RecordFrom
  readonly finish?: boolean
  readonly kind?: 'embedded' | 'kafka'
  readonly options?: Partial<RecordOptions>
}

/** Records to the end of the log, unless options say otherwise. */
export async function recordInto(
  file: RecordingFile,
  log: EmbeddedLog,
  {
    topics = ['orders', 'empty'],
    from = 'beginning',
    finish = true,
    kind = 'embedded',
    options,
  }: Recordable = {},
): Promise<number> {
  const described = await describeTopics(log, topics, from)
  const source = { kind, incarnation: log.incarnation }
  const header = { version: VERSION, createdMs: 0, source, topics: described }
  const writer = await RecordingWriter.create(file, header)
  const offsets = nextOffsets({ header, blocks: [] })
  const all = { source: log, writer, offsets, environment, toEnd: true, ...options }
  const records = await record(all)
  if (finish) await writer.finish()
  return records
}

export async function resumeInto(
  file: RecordingFile,
  log: EmbeddedLog,
  options?: Partial<RecordOptions>,
): Promise<number> {
  const recording = await openRecording(file)
  const writer = await resumeWriter(recording, log)
  const offsets = nextOffsets(recording)
  const all = { source: log, writer, offsets, environment, toEnd: true, ...options }
  const records = await record(all)
  await writer.finish()
  return records
}

/** Every record as a line, by partition: `orders-0: 0@10 k00=p0-0-0…`. */
export async function contents(recording: Recording): Promise<string[]> {
  const lines = new Map<string, string[]>()
  for (const entry of recording.blocks) {
    for (const data of await readBlock(recording, entry)) {
      const { name } = recording.header.topics[data.span.topic]!
      const place = `${name}-${data.span.partition}`
      for (const columns of spanRecords(recording, data)) {
        for (let i = 0; i < columns.length; i++) {
          const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
          const text = (from: number, to: number) => (from < 0 ? 'null' : bytes.utf8Slice(from, to))
          const key = text(keyStart[i]!, keyEnd[i]!)
          const value = text(valueStart[i]!, valueEnd[i]!)
          const line = `${columns.offsets[i]}@${columns.timestamps[i]} ${key}=${value}`
          lines.set(place, [...(lines.get(place) ?? []), line])
        }
      }
    }
  }
  return [...lines].sort().flatMap(([place, all]) => all.map(line => `${place}: ${line}`))
}

export async function contentsOf(file: RecordingFile): Promise<string[]> {
  return contents(await openRecording(file))
}
