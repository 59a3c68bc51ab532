/**
 * Feeds the demo world's events to the log: on a first start some history as fast as they are
 * taken, then live. What has been fed is committed with the events themselves, so that a
 * restart, after a kill too, neither repeats nor skips any.
 */
import { eventRecord } from '../contracts/event-record.ts'
import { eventKeyOf, eventTimeOf } from '../contracts/topics.ts'
import type { EventLog } from '../log/port.ts'
import { ReferenceData } from '../processors/demo/reference-data.ts'
import { type DemoSnapshot, DemoWorld } from '../processors/demo/world.ts'
import type { EngineEnvironment } from '../streams/environment.ts'
import type { ViewService } from '../streams/views.ts'
import type { EventAppender } from './event-appender.ts'

export interface DemoFeedOptions {
  readonly log: EventLog
  readonly appender: EventAppender
  readonly views: ViewService
  readonly environment: EngineEnvironment
  readonly ratePerSecond: number
  readonly seed: number
  /** Whether the story has payments; not where a payment service makes them. */
  readonly payments: boolean
  /** One instance of a group tells the story: false while it is another's turn. */
  readonly mayFeed: () => boolean
  readonly onError: (error: unknown) => void
}

const GROUP = 'millrace-demo'
/** Its committed metadata is the snapshot; no offset is meant. */
const PLACE = { topic: 'orders', partition: 0 }
const HISTORY_MS_MAX = 24 * 60 * 60 * 1000
/** What customers do and what comes of it: each order is some eight events where services run. */
const HISTORY_EVENTS_MAX = 144_000
const EVENTS_PER_ORDER = 8
const CHUNK_EVENTS = 2000
/** The first of the history, so that there is something to see soon; each next one is twice it. */
const CHUNK_EVENTS_FIRST = 60
const CHUNK_MS_MAX = 60_000
const LIVE_MS = 100
const CATCH_UP_MS_MAX = 10_000
const RETRY_MS = 1000

export class DemoFeed {
  readonly #options: DemoFeedOptions
  /** Undefined until it is this instance's turn: where the story stands is in the log. */
  #world: DemoWorld | undefined
  #reference = new ReferenceData()
  #stopped = false
  #wake: () => void = () => {}
  #running: Promise<void> | undefined

  constructor(options: DemoFeedOptions) {
    this.#options = options
  }

  async #load(): Promise<DemoWorld> {
    const { log, environment, ratePerSecond, seed, payments } = this.#options
    const story = { seed, ratePerSecond, payments }
    const [committed] = await log.committed(GROUP, [PLACE])
    const nowMs = environment.clock()
    const events = payments ? HISTORY_EVENTS_MAX : HISTORY_EVENTS_MAX / EVENTS_PER_ORDER
    const historyMs = Math.min(HISTORY_MS_MAX, (events / ratePerSecond) * 1000)
    const sinceMs = Math.floor(nowMs - historyMs)
    if (!committed) return new DemoWorld({ ...story, startMs: sinceMs })
    const snapshot = JSON.parse(committed.metadata) as DemoSnapshot
    if (
      Object.entries(story).some(([name, told]) => snapshot[name as keyof typeof story] !== told)
    ) {
      return new DemoWorld({ ...story, startMs: nowMs })
    }
    // After a long pause the world goes on as if only so much had been missed.
    const resumeMs = Math.max(snapshot.resumeMs, sinceMs)
    return DemoWorld.restore({ ...snapshot, resumeMs })
  }

  start(): void {
    this.#running ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#wake()
    await this.#running
  }

  async #run(): Promise<void> {
    const { clock } = this.#options.environment
    let taken: string | undefined
    let chunkEvents = CHUNK_EVENTS_FIRST
    while (!this.#stopped) {
      const nowMs = clock()
      try {
        if (!this.#options.mayFeed()) {
          this.#world = undefined
          await this.#pause(RETRY_MS)
          continue
        }
        this.#world ??= await this.#load()
        const chunkMs = Math.ceil((chunkEvents / this.#options.ratePerSecond) * 1000)
        chunkEvents = Math.min(chunkEvents * 2, CHUNK_EVENTS)
        const { resumeMs } = this.#world.snapshot()
        const untilMs = Math.min(nowMs, resumeMs + Math.min(chunkMs, CHUNK_MS_MAX))
        const position = await this.#feed(this.#world, untilMs)
        if (untilMs >= nowMs) await this.#pause(LIVE_MS)
        // History comes no faster than it is processed, so that the views move with it.
        else if (taken !== undefined) await this.#processed(taken)
        taken = position ?? taken
      } catch (error) {
        this.#options.onError(error)
        // What was not taken is told again.
        this.#world = undefined
        this.#reference = new ReferenceData()
        await this.#pause(RETRY_MS)
      }
    }
  }

  async #processed(position: string): Promise<void> {
    // An engine that is not running takes nothing, and has its own way of telling.
    const covered = await this.#options.views.waitFor(position, CATCH_UP_MS_MAX)
    if (!covered) await this.#pause(RETRY_MS)
  }

  async #feed(world: DemoWorld, untilMs: number): Promise<string | undefined> {
    const events = world.advance(untilMs)
    if (events.length === 0) return undefined
    const source = 'millrace/demo'
    const news = this.#reference.before(events.map(({ event }) => event))
    const records = [
      ...news.map(event => {
        return eventRecord(event, { id: `${eventKeyOf(event)}.${eventTimeOf(event)}`, source })
      }),
      ...events.map(({ event, ceId }) => eventRecord(event, { id: ceId, source })),
    ]
    const metadata = JSON.stringify(world.snapshot())
    const progress = { group: GROUP, offsets: [{ ...PLACE, offset: 0, metadata }] }
    return this.#options.appender.append(records, { progress })
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise(resolve => {
      const cancel = this.#options.environment.schedule(resolve, delayMs)
      this.#wake = () => {
        cancel()
        resolve()
      }
      if (this.#stopped) this.#wake()
    })
  }
}
