/** How many dead letters of an application are open. */
import type { EventLog, OffsetRange } from '../log/port.ts'
import type { LetterMarks } from './dead-letter-marks.ts'
import { readRange } from './read-range.ts'

/** Letters looked at in one call: the first count of many takes several. */
const SCAN_MAX = 50_000

export class LetterCount {
  readonly #log: EventLog
  readonly #topic: string
  readonly #marks: LetterMarks
  /** Letters from the first offset to the second. */
  #letters = 0
  #from = 0
  #to = 0
  #latest: number | undefined
  #counting: Promise<void> | undefined

  constructor(log: EventLog, topic: string, marks: LetterMarks) {
    this.#log = log
    this.#topic = topic
    this.#marks = marks
  }

  /**
   * As last counted, undefined before; begins to count again, without waiting for a log that may
   * not answer.
   */
  get open(): number | undefined {
    this.#counting ??= this.#count()
      .catch(() => {})
      .finally(() => {
        this.#counting = undefined
      })
    return this.#latest
  }

  async #count(): Promise<void> {
    const target = { topic: this.#topic, partition: 0 }
    const [range] = await this.#log.offsets([target])
    const { startOffset, endOffset } = range as OffsetRange
    // Retention has taken some, or the topic is another one.
    if (startOffset !== this.#from || endOffset < this.#to) {
      this.#letters = 0
      this.#from = startOffset
      this.#to = startOffset
    }
    const to = Math.min(endOffset, this.#to + SCAN_MAX)
    const span = { ...target, from: this.#to, to }
    this.#to = await readRange(this.#log, span, () => {
      this.#letters++
    })
    if (this.#to < endOffset) return
    await this.#marks.refresh()
    let settled = 0
    for (const [offset] of this.#marks.entries()) {
      if (offset >= this.#from && offset < this.#to) settled++
    }
    this.#latest = this.#letters - settled
  }
}
