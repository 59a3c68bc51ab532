/**
 * What has become of dead letters, in a compacted topic beside theirs, version 1:
 *
 *     key    = offset of the letter, decimal
 *     value  = JSON { v: 1, state: 'replayed' | 'discarded', at: epoch ms, by: text | null,
 *                     of: epoch ms | null }
 *
 * `of` is when the letter was put aside: a mark is for no other that has its offset, such as one
 * written after a salvage has cut the topic. A letter without a mark is open. What cannot be read
 * is passed over.
 */
import type { EventLog } from '../log/port.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import { readRange } from './read-range.ts'

export function deadLetterMarksTopic(application: string): string {
  return `${application}-dead-letter-states`
}

export interface LetterMark {
  readonly state: 'replayed' | 'discarded'
  readonly atMs: number
  /** Name of who did it, where it is known. */
  readonly by: string | null
  /** When its letter was put aside; null where the letter does not say. */
  readonly letterAtMs: number | null
}

export function encodeMark(offset: number, { state, atMs, by, letterAtMs }: LetterMark) {
  const value = JSON.stringify({ v: 1, state, at: atMs, by, of: letterAtMs })
  return { key: Buffer.from(String(offset)), value: Buffer.from(value) }
}

/** Undefined of bytes that are no mark. */
export function decodeMark(
  columns: RecordColumns,
  row: number,
): readonly [offset: number, mark: LetterMark] | undefined {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
  if (keyStart[row]! < 0 || valueStart[row]! < 0) return undefined
  const key = bytes.latin1Slice(keyStart[row], keyEnd[row])
  if (!/^\d{1,16}$/.test(key)) return undefined
  try {
    const parsed = JSON.parse(bytes.utf8Slice(valueStart[row], valueEnd[row])) as unknown
    const { v, state, at, by, of } = parsed as Readonly<Record<string, unknown>>
    if (v !== 1 || (state !== 'replayed' && state !== 'discarded')) return undefined
    const atMs = typeof at === 'number' ? at : 0
    const letterAtMs = typeof of === 'number' ? of : null
    return [Number(key), { state, atMs, by: typeof by === 'string' ? by : null, letterAtMs }]
  } catch {
    return undefined
  }
}

/** The marks of one application, as far as its topic was read. */
export class LetterMarks {
  readonly #log: EventLog
  readonly #topic: string
  readonly #marks = new Map<number, LetterMark>()
  #position = 0
  #reading: Promise<void> = Promise.resolve()

  constructor(log: EventLog, application: string) {
    this.#log = log
    this.#topic = deadLetterMarksTopic(application)
  }

  of(offset: number): LetterMark | undefined {
    return this.#marks.get(offset)
  }

  entries(): Iterable<[number, LetterMark]> {
    return this.#marks.entries()
  }

  /**
   * Reads what there is now; `all`: also what is committed and cannot be read at once. False where
   * that took too long, and some may be missing.
   */
  refresh({ all = false } = {}): Promise<boolean> {
    const turn = this.#reading.then(() => this.#read(all))
    this.#reading = turn.then(
      () => {},
      () => {},
    )
    return turn
  }

  async #read(all: boolean): Promise<boolean> {
    if ((await this.#log.describeTopic(this.#topic)) === undefined) return true
    const target = { topic: this.#topic, partition: 0 }
    const [range] = await this.#log.offsets([target])
    // It was made anew: the application has been reset.
    if (range!.highWatermark < this.#position) {
      this.#marks.clear()
      this.#position = 0
    }
    const from = Math.max(this.#position, range!.startOffset)
    const to = all ? range!.highWatermark : range!.endOffset
    this.#position = await readRange(this.#log, { ...target, from, to }, (columns, row) => {
      const mark = decodeMark(columns, row)
      if (mark !== undefined) this.#marks.set(...mark)
    })
    return this.#position >= to
  }
}
