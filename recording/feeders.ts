/** What is to be sent next: paced, record by record, or block by block as fast as it is taken. */
import { assert } from '../log/errors.ts'
import { type BatchLimit, type ChangeRecord, isWhole, Outgoing } from './outgoing.ts'
import type { Plan } from './plan.ts'
import type { OutgoingRecords } from './port.ts'
import { type Recording, readBlock, type SpanData, spanRecords } from './reader.ts'
import { type Chunk, timeline } from './timeline.ts'

export interface Parcel {
  readonly records: readonly OutgoingRecords[]
  readonly count: number
  readonly bytes: number
  /** When each record was due; undefined at `max`. */
  readonly dues: readonly number[] | undefined
}

export interface Feeder {
  /** Gets what comes next; false at the end of the last pass. Rejects with RECORDING_DAMAGED. */
  prepare(): Promise<boolean>
  /** When the next record is due. */
  readonly nextDueMs: number
  /** Collects what is due, as far as there is room for it. */
  collect(nowMs: number): void
  /** Bytes collected. */
  readonly sizeBytes: number
  /** What was collected. */
  take(): Parcel
  /** At the end: when those were due that were due by then and never taken; nothing at `max`. */
  overdue(untilMs: number): AsyncIterable<readonly number[]>
}

export interface FeederOptions {
  readonly recording: Recording
  readonly plan: Plan
  readonly passes: number
  readonly changeRecord: ChangeRecord
  readonly batchBytesMax: BatchLimit
}

/** One send has about so many bytes at most. */
const PARCEL_BYTES = 1 << 20

/** Records in the order of the timeline, each when it is due. */
export class PacedFeeder implements Feeder {
  readonly #options: FeederOptions
  readonly #outgoing: Outgoing
  #pass = 0
  #chunks: AsyncGenerator<Chunk>
  #upcoming: Promise<IteratorResult<Chunk>>
  #chunk: Chunk = []
  #run = 0
  /** In the run. */
  #at = 0
  /** Of all passes. */
  #index = 0
  #dues: number[] = []

  /** `begun` is the timeline of the first pass, of which the first chunk was taken. */
  constructor(
    options: FeederOptions,
    begun: {
      readonly chunks: AsyncGenerator<Chunk>
      readonly first: IteratorResult<Chunk>
    },
  ) {
    this.#options = options
    this.#outgoing = new Outgoing(options.changeRecord, options.batchBytesMax)
    this.#chunks = begun.chunks
    this.#upcoming = Promise.resolve(begun.first)
  }

  async prepare(): Promise<boolean> {
    while (this.#run >= this.#chunk.length) {
      const { done, value } = await this.#upcoming
      if (done === true) {
        if (++this.#pass >= this.#options.passes) return false
        this.#chunks = timeline(this.#options.recording)
        this.#upcoming = ahead(this.#chunks)
        continue
      }
      this.#upcoming = ahead(this.#chunks)
      this.#chunk = value
      this.#run = 0
      this.#at = value[0]!.start
    }
    return true
  }

  get nextDueMs(): number {
    const { streamTimes } = this.#chunk[this.#run]!
    return this.#options.plan.dueMs(this.#index, this.#pass, streamTimes[this.#at]!)
  }

  collect(nowMs: number): void {
    const { recording, plan } = this.#options
    const change = plan.change(this.#pass)
    while (this.#run < this.#chunk.length) {
      const { topic, partition, columns, streamTimes, end } = this.#chunk[this.#run]!
      const place = { topic: recording.header.topics[topic]!.name, partition }
      for (; this.#at < end; this.#at++, this.#index++) {
        const dueMs = plan.dueMs(this.#index, this.#pass, streamTimes[this.#at]!)
        if (dueMs > nowMs || this.#outgoing.sizeBytes >= PARCEL_BYTES) return
        this.#outgoing.add(place, { columns, i: this.#at, change })
        this.#dues.push(dueMs)
      }
      this.#at = this.#chunk[++this.#run]?.start ?? 0
    }
  }

  get sizeBytes(): number {
    return this.#outgoing.sizeBytes
  }

  take(): Parcel {
    const dues = this.#dues
    this.#dues = []
    const bytes = this.#outgoing.sizeBytes
    return { records: this.#outgoing.take(), count: dues.length, bytes, dues }
  }

  async *overdue(untilMs: number): AsyncGenerator<readonly number[]> {
    yield this.#dues
    while (await this.prepare()) {
      const { streamTimes, end } = this.#chunk[this.#run]!
      const dues: number[] = []
      for (; this.#at < end && this.nextDueMs <= untilMs; this.#at++, this.#index++) {
        dues.push(this.#options.plan.dueMs(this.#index, this.#pass, streamTimes[this.#at]!))
      }
      yield dues
      if (this.#at < end) return
      this.#at = this.#chunk[++this.#run]?.start ?? 0
    }
  }
}

/** Read while the one before it is sent; what is wrong with it is told when it is asked for. */
function ahead(chunks: AsyncGenerator<Chunk>): Promise<IteratorResult<Chunk>> {
  const next = chunks.next()
  next.catch(() => {})
  return next
}

/** Blocks in the order of the file. Those that need no change go out as they are. */
export class BlockFeeder implements Feeder {
  readonly #options: FeederOptions
  readonly #outgoing: Outgoing
  readonly nextDueMs = Number.NEGATIVE_INFINITY
  #pass = 0
  #block = 0
  #upcoming: Promise<readonly SpanData[]> | undefined
  #parcel: Parcel | undefined

  constructor(options: FeederOptions) {
    this.#options = options
    this.#outgoing = new Outgoing(options.changeRecord, options.batchBytesMax)
  }

  async prepare(): Promise<boolean> {
    if (this.#parcel !== undefined) return true
    const upcoming = this.#upcoming ?? this.#read()
    if (upcoming === undefined) return false
    const pass = this.#pass
    const spans = await upcoming
    this.#advance()
    this.#upcoming = this.#read()
    this.#parcel = this.#parcelOf(spans, pass)
    return true
  }

  #read(): Promise<readonly SpanData[]> | undefined {
    const { recording, passes } = this.#options
    const entry = recording.blocks[this.#block]
    if (entry === undefined || this.#pass >= passes) return undefined
    const block = readBlock(recording, entry)
    block.catch(() => {})
    return block
  }

  #advance(): void {
    this.#block++
    if (this.#block < this.#options.recording.blocks.length) return
    this.#block = 0
    this.#pass++
  }

  #parcelOf(spans: readonly SpanData[], pass: number): Parcel {
    const { recording, plan, batchBytesMax } = this.#options
    const { topics } = recording.header
    const change = plan.change(pass)
    const count = spans.reduce((sum, { span }) => sum + span.records, 0)
    const isFit = (data: SpanData) => isWhole(data, batchBytesMax(topics[data.span.topic]!.name))
    if (change === undefined && spans.every(isFit)) {
      const records = spans.map(({ span: { topic, partition, records }, bytes }) => {
        return { topic: topics[topic]!.name, partition, records, bytes }
      })
      const bytes = spans.reduce((sum, span) => sum + span.bytes.length, 0)
      return { records, count, bytes, dues: undefined }
    }
    for (const data of spans) {
      const place = { topic: topics[data.span.topic]!.name, partition: data.span.partition }
      for (const columns of spanRecords(recording, data)) {
        for (let i = 0; i < columns.length; i++) this.#outgoing.add(place, { columns, i, change })
      }
    }
    const bytes = this.#outgoing.sizeBytes
    return { records: this.#outgoing.take(), count, bytes, dues: undefined }
  }

  collect(): void {}

  get sizeBytes(): number {
    return this.#parcel?.bytes ?? 0
  }

  take(): Parcel {
    const parcel = this.#parcel
    assert(parcel !== undefined, 'a parcel is prepared before it is taken')
    this.#parcel = undefined
    return parcel
  }

  async *overdue(): AsyncGenerator<readonly number[]> {}
}
