/** Some letters that are replayed or discarded together. */
import type { ExclusiveWriter } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { deadLetterMarksTopic, encodeMark, type LetterMark } from './dead-letter-marks.ts'
import type { OriginalRecord } from './dead-letter-original.ts'
import { type ReplayedLetter, withReplayHeader } from './replay-header.ts'

const CHUNK_BYTES_MAX = 512 * 1024

/** One transaction: records that go back to their topics, and the marks of their letters. */
export class Chunk {
  readonly #application: string
  readonly #builders = new Map<string, { target: OriginalRecord; builder: RecordBatchBuilder }>()
  readonly #marks = new RecordBatchBuilder()
  #bytes = 0

  constructor(application: string) {
    this.#application = application
  }

  hasRoomFor(original: OriginalRecord): boolean {
    return this.#bytes === 0 || this.#bytes + sizeOf(original) <= CHUNK_BYTES_MAX
  }

  putBack(original: OriginalRecord, letter: Omit<ReplayedLetter, 'application'>): void {
    const { topic, partition, timestampMs, key, value, headers } = original
    const id = `${topic}/${partition}`
    const open = this.#builders.get(id) ?? { target: original, builder: new RecordBatchBuilder() }
    this.#builders.set(id, open)
    const application = this.#application
    const own = withReplayHeader(headers, { application, ...letter })
    open.builder.append(timestampMs, whole(key), whole(value), own)
    this.#bytes += sizeOf(original)
  }

  mark(offset: number, mark: LetterMark): void {
    const { key, value } = encodeMark(offset, mark)
    this.#marks.append(mark.atMs, whole(key), whole(value))
  }

  async commit(writer: ExclusiveWriter): Promise<void> {
    if (this.#marks.count === 0) return
    const transaction = writer.begin()
    for (const { target, builder } of this.#builders.values()) {
      const { topic, partition } = target
      transaction.append({ topic, partition }, builder.finish())
    }
    const topic = deadLetterMarksTopic(this.#application)
    transaction.append({ topic, partition: 0 }, this.#marks.finish())
    this.#builders.clear()
    this.#bytes = 0
    await transaction.commit()
  }
}

function sizeOf({ key, value }: OriginalRecord): number {
  return (key?.length ?? 0) + (value?.length ?? 0)
}

function whole(bytes: Buffer | null) {
  return bytes && { bytes, start: 0, end: bytes.length }
}
