/**
 * Dead letters as an operator handles them: listed, looked at, replayed, discarded. What has become
 * of a letter is a mark in a topic (`dead-letter-marks.ts`), written in the transaction that puts
 * its record back. Whoever writes marks holds the application's exclusive writer and has read all
 * marks before, so that a letter is replayed once, whoever asks for it on however many instances.
 */
import { MillraceError } from '../log/errors.ts'
import type { EventLog, ExclusiveWriter } from '../log/port.ts'
import { deadLetterTopic } from './assembly.ts'
import { type LetterMark, LetterMarks } from './dead-letter-marks.ts'
import { type OriginalRecord, originalOf } from './dead-letter-original.ts'
import { type DeadLetter, decodeLetter } from './dead-letter-record.ts'
import { assert, streamsError } from './errors.ts'
import { Chunk } from './letter-chunk.ts'
import { LetterCount } from './letter-count.ts'
import { readRange } from './read-range.ts'
import { originalPlace, runOf } from './replay-header.ts'
import { idOfLetter } from './replay-steps.ts'

export type LetterState = 'open' | LetterMark['state']

/** A letter with its place in the dead-letter topic. */
export interface StoredLetter {
  readonly application: string
  readonly offset: number
  readonly letter: DeadLetter
  readonly state: LetterState
  readonly mark: LetterMark | undefined
}

/** What is absent matches everything. */
export interface LetterFilter {
  readonly state?: LetterState
  readonly reason?: string
  readonly topic?: string
  readonly step?: string
  /** When it was put aside, `[fromMs, toMs)`; of old letters the time of the record. */
  readonly fromMs?: number
  readonly toMs?: number
}

export interface LetterQuery {
  readonly filter: LetterFilter
  readonly limit: number
  /** Offset that the last page came to. */
  readonly at?: number
}

export interface LetterPage<T> {
  readonly letters: readonly T[]
  /** Where the next page goes on; null at the end. */
  readonly next: number | null
}

export type LetterAction = 'replay' | 'discard'

export interface ActRequest {
  readonly action: LetterAction
  /** Name of who asks for it. */
  readonly by: string | null
  /** Says only what would be done. */
  readonly dryRun: boolean
}

/** What became of one letter: `changed` is false when it was so already. */
export type LetterOutcome = { readonly offset: number } & (
  | { readonly state: LetterState; readonly changed: boolean }
  | { readonly error: MillraceError }
)

/** Letters looked at for a page, most: a page that took long ends early. */
const SCAN_MAX = 20_000
const WINDOW = 256
/** Of one transaction of replays and discards. */
const CHUNK_LETTERS_MAX = 200
const TAKEOVERS_MAX = 5

export interface DeadLetterAdminOptions {
  readonly application: string
  readonly log: EventLog
  readonly clock: () => number
  /** Why a letter cannot be replayed; undefined when it can. */
  readonly refusal: (letter: DeadLetter) => string | undefined
}

export class DeadLetterAdmin {
  readonly application: string
  readonly #options: DeadLetterAdminOptions
  readonly #topic: string
  #topicId: string | undefined
  readonly #marks: LetterMarks
  readonly #count: LetterCount
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: DeadLetterAdminOptions) {
    this.application = options.application
    this.#options = options
    this.#topic = deadLetterTopic(options.application)
    this.#marks = new LetterMarks(options.log, options.application)
    this.#count = new LetterCount(options.log, this.#topic, this.#marks)
  }

  /** How many are open, as last counted; undefined before that. */
  get open(): number | undefined {
    return this.#count.open
  }

  /** Letters that match, newest first, each as `show` gives it. */
  async list<T>(query: LetterQuery, show: (letter: StoredLetter) => T): Promise<LetterPage<T>> {
    const { filter, limit, at } = query
    await this.#marks.refresh()
    const { startOffset, endOffset } = await this.#range()
    const letters: T[] = []
    let to = Math.min(at ?? endOffset, endOffset)
    for (let scanned = 0; letters.length < limit && to > startOffset && scanned < SCAN_MAX; ) {
      const from = Math.max(startOffset, to - WINDOW)
      const found: { offset: number; shown: T }[] = []
      await this.#scan({ from, to }, stored => {
        scanned++
        if (!matches(stored, filter)) return
        found.push({ offset: stored.offset, shown: show(stored) })
      })
      to = from
      for (const { offset, shown } of found.reverse()) {
        letters.push(shown)
        if (letters.length < limit) continue
        to = offset
        break
      }
    }
    return { letters, next: to > startOffset ? to : null }
  }

  /** Undefined when there is none. */
  async get(offset: number): Promise<StoredLetter | undefined> {
    await this.#marks.refresh()
    return this.#read(offset)
  }

  /** What a replay would put back. Throws LETTER_NOT_REPLAYABLE. */
  original(stored: StoredLetter): Promise<OriginalRecord> {
    const { letter, offset } = stored
    const reason = this.#options.refusal(letter)
    if (reason !== undefined) throw notReplayable(this.application, offset, reason)
    return originalOf(this.#options.log, letter, why => {
      return notReplayable(this.application, offset, why)
    })
  }

  /** Of single letters. Throws LETTER_UNKNOWN, LETTER_SETTLED, LETTER_NOT_REPLAYABLE. */
  async act(request: ActRequest, offset: number): Promise<LetterOutcome> {
    const [outcome] = await this.#actOn(request, [offset])
    if ('error' in outcome!) throw outcome.error
    return outcome!
  }

  /**
   * Of letters that match, the oldest first, so that records go back in their order. Open ones
   * unless the filter says otherwise.
   */
  async actAll(
    request: ActRequest,
    { filter, limit, at }: LetterQuery,
  ): Promise<LetterPage<LetterOutcome>> {
    await this.#marks.refresh()
    const { startOffset, endOffset } = await this.#range()
    let from = Math.max(at ?? startOffset, startOffset)
    const offsets: number[] = []
    for (let scanned = 0; from < endOffset && offsets.length < limit && scanned < SCAN_MAX; ) {
      const to = Math.min(from + WINDOW, endOffset)
      await this.#scan({ from, to }, stored => {
        scanned++
        if (offsets.length === limit || !matches(stored, filter)) return
        offsets.push(stored.offset)
      })
      from = offsets.length === limit ? offsets.at(-1)! + 1 : to
    }
    const letters: LetterOutcome[] = []
    for (let i = 0; i < offsets.length; i += CHUNK_LETTERS_MAX) {
      const some = offsets.slice(i, i + CHUNK_LETTERS_MAX)
      letters.push(...(await this.#actOn(request, some)))
    }
    return { letters, next: from < endOffset ? from : null }
  }

  async #actOn(request: ActRequest, offsets: readonly number[]): Promise<LetterOutcome[]> {
    if (request.dryRun) {
      await this.#marks.refresh()
      const planned: LetterOutcome[] = []
      for (const offset of offsets) planned.push(await this.#planned(request, offset))
      return planned
    }
    const turn = this.#turn.then(() => this.#exclusively(request, offsets))
    this.#turn = turn.catch(() => {})
    return turn
  }

  async #planned(request: ActRequest, offset: number): Promise<LetterOutcome> {
    const change = await this.#change(request, offset).catch(asRefused)
    if (change instanceof MillraceError) return { offset, error: change }
    return { offset, state: change.state, changed: change.isNew }
  }

  /** When somebody else takes the writer in between, nothing is written, and it is begun anew. */
  async #exclusively(request: ActRequest, offsets: readonly number[]): Promise<LetterOutcome[]> {
    const { log } = this.#options
    for (let attempt = 0; attempt < TAKEOVERS_MAX; attempt++) {
      const writer = await log.exclusive(`${this.application}-dead-letters`)
      try {
        // A letter that seems open may have been replayed: nothing is done by half of the marks.
        if (!(await this.#marks.refresh({ all: true }))) break
        return await this.#write(request, offsets, writer)
      } catch (error) {
        if (!(error instanceof MillraceError && error.code === 'WRITER_REPLACED')) throw error
      } finally {
        await writer.close()
      }
    }
    throw streamsError('LETTERS_BUSY', { application: this.application })
  }

  async #write(
    request: ActRequest,
    offsets: readonly number[],
    writer: ExclusiveWriter,
  ): Promise<LetterOutcome[]> {
    const outcomes: LetterOutcome[] = []
    const chunk = new Chunk(this.application)
    const atMs = this.#options.clock()
    for (const offset of offsets) {
      const change = await this.#change(request, offset).catch(asRefused)
      if (change instanceof MillraceError) {
        outcomes.push({ offset, error: change })
        continue
      }
      outcomes.push({ offset, state: change.state, changed: change.isNew })
      if (!change.isNew) continue
      if (change.original !== undefined) {
        if (!chunk.hasRoomFor(change.original)) await chunk.commit(writer)
        chunk.putBack(change.original, change.replayed!)
      }
      const { state, letterAtMs } = change
      chunk.mark(offset, { state, atMs, by: request.by, letterAtMs })
    }
    await chunk.commit(writer)
    await this.#marks.refresh({ all: true })
    return outcomes
  }

  /** What is to be done about a letter. Throws LETTER_UNKNOWN, LETTER_SETTLED, … */
  async #change({ action }: ActRequest, offset: number) {
    const stored = await this.#read(offset)
    if (stored === undefined) {
      throw streamsError('LETTER_UNKNOWN', { letter: letterId(this.application, offset) })
    }
    const state: LetterMark['state'] = action === 'replay' ? 'replayed' : 'discarded'
    const letterAtMs = stored.letter.atMs
    if (stored.state === state) return { state, isNew: false, letterAtMs }
    if (stored.state === 'replayed') {
      throw streamsError('LETTER_SETTLED', { letter: letterId(this.application, offset) })
    }
    if (action === 'discard') return { state, isNew: true, letterAtMs }
    const original = await this.original(stored)
    const replayed = await this.#replayed(stored)
    return { state, isNew: true, letterAtMs, original, replayed }
  }

  /** What the headers say of it. */
  async #replayed({ letter, offset }: StoredLetter) {
    const { branch, place, headers } = letter
    const step = idOfLetter(letter)
    if (branch === null) return { offset, step, original: undefined }
    this.#topicId ??= (await this.#options.log.describeTopic(this.#topic))!.id
    const first = originalPlace(headers?.at(-2))?.offset ?? place!.offset
    return { offset, step, original: { offset: first, run: runOf(this.#topicId, branch) } }
  }

  async #read(offset: number): Promise<StoredLetter | undefined> {
    const { startOffset, endOffset } = await this.#range()
    if (offset < startOffset || offset >= endOffset) return undefined
    let found: StoredLetter | undefined
    await this.#scan({ from: offset, to: offset + 1 }, stored => {
      found = stored
    })
    return found
  }

  async #range() {
    const { log } = this.#options
    const [range] = await log.offsets([{ topic: this.#topic, partition: 0 }])
    assert(range !== undefined, 'each partition has its range')
    return range
  }

  async #scan(
    span: { readonly from: number; readonly to: number },
    visit: (stored: StoredLetter) => void,
  ): Promise<void> {
    const { application } = this
    const target = { topic: this.#topic, partition: 0 }
    await readRange(this.#options.log, { ...target, ...span }, (columns, row) => {
      const offset = columns.offsets[row]!
      const letter = decodeLetter(columns, row)
      const known = this.#marks.of(offset)
      const mark = known?.letterAtMs === letter.atMs ? known : undefined
      visit({ application, offset, letter, mark, state: mark?.state ?? 'open' })
    })
  }
}

function matches({ letter, state }: StoredLetter, filter: LetterFilter): boolean {
  const atMs = letter.atMs ?? letter.timestampMs
  return (
    (filter.state === undefined || filter.state === state) &&
    (filter.reason === undefined || filter.reason === letter.reason) &&
    (filter.topic === undefined || filter.topic === letter.place?.topic) &&
    (filter.step === undefined || filter.step === letter.step) &&
    atMs >= (filter.fromMs ?? Number.NEGATIVE_INFINITY) &&
    atMs < (filter.toMs ?? Number.POSITIVE_INFINITY)
  )
}

function asRefused(error: unknown): MillraceError {
  if (error instanceof MillraceError && error.recovery === 'reject') return error
  throw error
}

function notReplayable(application: string, offset: number, reason: string): MillraceError {
  const letter = letterId(application, offset)
  return streamsError('LETTER_NOT_REPLAYABLE', { letter, reason })
}

/** `APPLICATION.OFFSET`. */
export function letterId(application: string, offset: number): string {
  return `${application}.${offset}`
}

export function parseLetterId(id: string) {
  const match = /^(.+)\.(\d{1,15})$/s.exec(id)
  return match === null ? undefined : { application: match[1]!, offset: Number(match[2]) }
}
