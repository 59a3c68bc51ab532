/**
 * Clients that follow a view of a simulated cluster, each at some instance: what a client holds
 * is whole whenever it is told so, and never goes back.
 */

import { expect } from 'vitest'
import { LiveRows } from '../../client/live-rows.ts'
import type { LiveRow, ServerMessage } from '../../contracts/live.ts'
import { MillraceError } from '../../streams/errors.ts'
import { Random } from '../support/random.ts'
import type { Instance, SimulatedCluster } from '../support/simulation/cluster.ts'
import { endOf, faults, identityOfRow, type ReadingsView, type StoryReading } from './readings.ts'

export interface FollowCounts {
  snapshots: number
  deltas: number
  refetches: number
  resumed: number
  refusals: number
}

export class Follower {
  readonly counts: FollowCounts = {
    snapshots: 0,
    deltas: 0,
    refetches: 0,
    resumed: 0,
    refusals: 0,
  }
  readonly #cluster: SimulatedCluster
  readonly #records: readonly StoryReading[]
  readonly #view: ReadingsView
  readonly #random: Random
  #live = new LiveRows()
  /** The most that each row was seen with at this instance. */
  #seen = new Map<string, number>()
  #host: Instance | undefined
  #stop: () => void = () => {}
  #slowUntilMs = 0
  #failure: unknown
  #retrying = false
  #turn = 0

  constructor(
    cluster: SimulatedCluster,
    options: { records: readonly StoryReading[]; view: ReadingsView; seed: number },
  ) {
    this.#cluster = cluster
    this.#records = options.records
    this.#view = options.view
    this.#random = new Random(options.seed)
  }

  /** Goes to another instance when its own has gone, and now and then for no reason. */
  look(): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#random.below(10) === 0) {
      this.#slowUntilMs = this.#cluster.time.nowMs + this.#random.below(500)
    }
    const isGone = this.#host?.process.dead !== false
    if (!isGone && this.#random.below(15) > 0) return
    const serving = this.#cluster.live.filter(({ serving }) => serving !== undefined)
    if (serving.length === 0) return
    this.#stop()
    if (isGone) this.#live.interrupted()
    this.#host = this.#random.pick(serving)
    this.#seen = new Map()
    this.#subscribe()
  }

  #subscribe(): void {
    const host = this.#host!
    const resume = this.#live.position
    let last: Promise<void> = Promise.resolve()
    const turn = ++this.#turn
    // What an older subscription had sent may still be under way.
    const isMine = () => this.#turn === turn
    const onMessage = (message: ServerMessage) => {
      try {
        if (isMine()) this.#receive(message, resume)
      } catch (error) {
        this.#failure ??= error
      }
    }
    const travel = (arrive: () => void) => {
      const travelled = this.#cluster.time.after(this.#random.below(20), () => {})
      last = last.then(() => travelled).then(arrive)
    }
    const receive = (text: string) => travel(() => onMessage(JSON.parse(text)))
    const onError = (error: unknown) =>
      travel(() => {
        if (isMine()) this.#refused(error)
      })
    let stopped = false
    let stop = () => {}
    this.#stop = () => {
      stopped = true
      stop()
    }
    void host.process.after(0, () => {
      if (stopped) return
      const isSlow = () => this.#cluster.time.nowMs < this.#slowUntilMs
      const options = { view: this.#view, isSlow, onError, ...(resume && { resume }) }
      stop = host.serving!.subscribe(options, receive)
    })
  }

  /** As the client of the live protocol does it. */
  #refused(error: unknown): void {
    const passes = error instanceof MillraceError && error.code === 'VIEW_NOT_READY'
    if (!passes) this.#failure ??= error
    this.counts.refusals++
    this.#live.interrupted()
    if (this.#retrying) return
    this.#retrying = true
    const host = this.#host
    void this.#cluster.time.after(300, () => {
      this.#retrying = false
      if (this.#host === host) this.#subscribe()
    })
  }

  #receive(message: ServerMessage, resume: string | undefined): void {
    if (message.type === 'must-refetch') this.counts.refetches++
    if (message.type === 'delta') this.counts.deltas++
    const wasResumed = resume !== undefined && this.#live.position === resume
    const event = this.#live.apply(message)
    if (message.type === 'up-to-date') this.counts[event === undefined ? 'resumed' : 'snapshots']++
    const isWhole = message.type === 'up-to-date' || message.type === 'delta'
    if (isWhole && this.#live.position !== undefined) this.#check(this.#live.position, wasResumed)
  }

  #check(position: string, wasResumed: boolean): void {
    const rows = [...this.#live.rows.values()] as LiveRow[]
    const answer = { view: this.#view, rows, position }
    const what = `${this.#view} at ${this.#host!.id}${wasResumed ? ', resumed' : ''}`
    expect(faults(answer, this.#records, endOf(this.#cluster)), what).toEqual([])
    const found = new Map(rows.map(row => [identityOfRow(this.#view, row), Number(row.count)]))
    for (const [identity, count] of this.#seen) {
      const now = found.get(identity) ?? 0
      if (now < count) throw new Error(`${what}: ${identity} went from ${count} to ${now}`)
    }
    this.#seen = found
  }

  /** At rest it holds everything, at the end of the log. */
  async checkRest(): Promise<void> {
    const end = endOf(this.#cluster)
    const wrong = () => {
      if (this.#failure !== undefined) throw this.#failure
      const rows = [...this.#live.rows.values()] as LiveRow[]
      return faults({ view: this.#view, rows, position: end }, this.#records, end)
    }
    for (let waits = 0; wrong().length > 0 && waits < 100; waits++) {
      await this.#cluster.time.run(300)
    }
    expect(wrong(), `${this.#view} at ${this.#host?.id}`).toEqual([])
    this.#stop()
  }
}
