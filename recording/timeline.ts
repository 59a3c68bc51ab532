/**
 * The records of a recording in one order: by stream time, which is the largest timestamp so far
 * in a partition, each partition in its own order. A late record comes right behind the one that
 * made it late, as it did when it was recorded.
 */
import { MillraceError } from '../log/errors.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import type { BlockEntry } from './format.ts'
import { type Recording, readBlock, type SpanData, spanRecords } from './reader.ts'

/** Consecutive records `[start, end)` of one partition. */
export interface Run {
  /** Place in the header's list of topics. */
  readonly topic: number
  readonly partition: number
  readonly columns: RecordColumns
  /** Stream time at each record of the columns, epoch ms. */
  readonly streamTimes: Float64Array
  readonly start: number
  readonly end: number
}

/** Runs that come together, at least one. */
export type Chunk = readonly Run[]

/** A chunk ends here, so that its runs do not outgrow memory. */
const CHUNK_RUNS = 4096

/**
 * The whole recording, in chunks. Where a block is damaged, all that lies before it in the file
 * comes first, and of partitions that were ahead what had come already: none has a gap. Then it
 * throws RECORDING_DAMAGED.
 */
export async function* timeline(recording: Recording): AsyncGenerator<Chunk> {
  const reading = new Reading(openCursors(recording))
  await reading.fill(reading.open)
  while (reading.open.length > 0) {
    const runs: Run[] = []
    let drained: Cursor | undefined
    while (drained === undefined && runs.length < CHUNK_RUNS) {
      const { first, bound } = earliest(reading.open)
      runs.push(first.take(bound))
      if (first.isDrained) drained = first
    }
    yield runs
    if (drained !== undefined) await reading.fill([drained])
  }
  if (reading.damage !== undefined) throw reading.damage
}

/** The partitions that have something to take, up to the first damage that was met. */
class Reading {
  open: readonly Cursor[]
  damage: MillraceError | undefined

  constructor(cursors: readonly Cursor[]) {
    this.open = cursors
  }

  async fill(cursors: readonly Cursor[]): Promise<void> {
    for (const result of await Promise.allSettled(cursors.map(cursor => cursor.fill()))) {
      if (result.status === 'rejected') this.#failed(result.reason)
    }
    if (cursors.some(cursor => cursor.isDrained) || this.damage !== undefined) {
      this.open = this.open.filter(cursor => !cursor.isDrained)
    }
  }

  #failed(error: unknown): void {
    if (!(error instanceof MillraceError && error.code === 'RECORDING_DAMAGED')) throw error
    const position = Number(error.details.position)
    if (position >= Number(this.damage?.details.position ?? Number.POSITIVE_INFINITY)) return
    this.damage = error
    for (const cursor of this.open) cursor.endBefore(position)
  }
}

/** The cursor whose next record comes first, and until when its records come before all others. */
function earliest(cursors: readonly Cursor[]): { first: Cursor; bound: number } {
  let first = cursors[0]!
  let bound = Number.POSITIVE_INFINITY
  for (const cursor of cursors.slice(1)) {
    if (cursor.nextTime < first.nextTime) {
      bound = first.nextTime
      first = cursor
    } else bound = Math.min(bound, cursor.nextTime)
  }
  return { first, bound }
}

/** Where one partition has been read to. */
class Cursor {
  readonly #recording: Recording
  readonly #blocks: BlockCache
  readonly #topic: number
  readonly #partition: number
  #entries: readonly BlockEntry[]
  #nextEntry = 0
  /** Of the block that the runs are of. */
  #position = 0
  #spans: SpanData[] = []
  #runs: { columns: RecordColumns; streamTimes: Float64Array }[] = []
  #at = 0
  #streamTime = Number.NEGATIVE_INFINITY

  constructor(
    recording: Recording,
    blocks: BlockCache,
    place: { topic: number; partition: number; entries: readonly BlockEntry[] },
  ) {
    this.#recording = recording
    this.#blocks = blocks
    this.#topic = place.topic
    this.#partition = place.partition
    this.#entries = place.entries
  }

  /** Has nothing to take before the next `fill`. */
  get isDrained(): boolean {
    return this.#runs.length === 0
  }

  get isAtEnd(): boolean {
    return this.isDrained && this.#spans.length === 0 && this.#nextEntry >= this.#entries.length
  }

  /** Stream time at the next record. */
  get nextTime(): number {
    return this.#runs[0]!.streamTimes[this.#at]!
  }

  /** Reads on until there is something to take, or the end. */
  async fill(): Promise<void> {
    while (this.isDrained && !this.isAtEnd) {
      const next = this.#spans.shift()
      if (next !== undefined) this.#decode(next)
      else this.#spans = await this.#nextBlock()
    }
  }

  /** Leaves out what lies in the file from `position` on. */
  endBefore(position: number): void {
    this.#entries = this.#entries.filter(entry => entry.position < position)
    this.#spans = this.#spans.filter(data => data.position < position)
    if (this.#position >= position) this.#runs = []
  }

  async #nextBlock(): Promise<SpanData[]> {
    const all = await this.#blocks.get(this.#entries[this.#nextEntry++]!)
    const following = this.#entries[this.#nextEntry]
    if (following !== undefined) this.#blocks.expect(following)
    return all.filter(
      ({ span }) => span.topic === this.#topic && span.partition === this.#partition,
    )
  }

  #decode(data: SpanData): void {
    this.#position = data.position
    this.#runs = spanRecords(this.#recording, data).map(columns => {
      const streamTimes = new Float64Array(columns.length)
      for (let i = 0; i < columns.length; i++) {
        this.#streamTime = Math.max(this.#streamTime, columns.timestamps[i]!)
        streamTimes[i] = this.#streamTime
      }
      return { columns, streamTimes }
    })
  }

  /** Takes what comes no later than `bound`, at least one record. */
  take(bound: number): Run {
    const { columns, streamTimes } = this.#runs[0]!
    const start = this.#at
    let end = start + 1
    while (end < columns.length && streamTimes[end]! <= bound) end++
    this.#at = end
    if (end === columns.length) {
      this.#runs.shift()
      this.#at = 0
    }
    return { topic: this.#topic, partition: this.#partition, columns, streamTimes, start, end }
  }
}

function openCursors(recording: Recording): Cursor[] {
  const places = new Map<string, { topic: number; partition: number; entries: BlockEntry[] }>()
  for (const entry of recording.blocks) {
    for (const { topic, partition } of entry.spans) {
      const key = `${topic}/${partition}`
      const place = places.get(key) ?? { topic, partition, entries: [] }
      places.set(key, place)
      if (place.entries.at(-1) !== entry) place.entries.push(entry)
    }
  }
  const blocks = new BlockCache(recording, places.size + 2)
  return [...places.values()].map(place => new Cursor(recording, blocks, place))
}

/** Blocks lately read: most are wanted by several partitions at about the same time. */
class BlockCache {
  readonly #recording: Recording
  readonly #size: number
  readonly #blocks = new Map<BlockEntry, Promise<readonly SpanData[]>>()

  constructor(recording: Recording, size: number) {
    this.#recording = recording
    this.#size = size
  }

  get(entry: BlockEntry): Promise<readonly SpanData[]> {
    const block = this.#blocks.get(entry) ?? readBlock(this.#recording, entry)
    this.#blocks.delete(entry)
    this.#blocks.set(entry, block)
    if (this.#blocks.size > this.#size) this.#blocks.delete(this.#blocks.keys().next().value!)
    return block
  }

  /** Reads it now, for later; what is wrong with it is told then. */
  expect(entry: BlockEntry): void {
    this.get(entry).catch(() => {})
  }
}
