/** Clients of a simulated cluster: each asks a random instance for something at a random moment. */
import { expect } from 'vitest'
import { MillraceError } from '../../streams/errors.ts'
import type { InstanceViews } from '../../streams/view-service.ts'
import type { RowsPage, Waiting } from '../../streams/views.ts'
import { Random } from '../support/random.ts'
import type { Instance, SimulatedCluster } from '../support/simulation/cluster.ts'
import {
  type Answer,
  endOf,
  faults,
  identityOf,
  identityOfRow,
  type ReadingsView,
  type StoryReading,
  views,
} from './readings.ts'

const refusals = ['VIEW_NOT_READY', 'POSITION_TIMEOUT']

export class Readers {
  readonly counts = { answered: 0, refused: 0, lost: 0, merged: 0, walked: 0 }
  readonly #cluster: SimulatedCluster
  readonly #records: readonly StoryReading[]
  readonly #random: Random
  readonly #reading = new Set<Promise<void>>()
  #failure: unknown

  constructor(cluster: SimulatedCluster, records: readonly StoryReading[], seed: number) {
    this.#cluster = cluster
    this.#records = records
    this.#random = new Random(seed)
  }

  /** Begins a few reads; they go on while the story does. Throws what an earlier one met. */
  ask(): void {
    if (this.#failure !== undefined) throw this.#failure
    for (let reads = this.#random.below(9); reads > 0; reads--) {
      const reading = this.#read(this.#random.below(4)).catch(error => {
        this.#failure ??= error
      })
      this.#reading.add(reading)
      void reading.then(() => this.#reading.delete(reading))
    }
  }

  async #read(kind: number): Promise<void> {
    const view = this.#random.pick(views)
    if (kind === 0) await this.#walk(view)
    else if (kind === 1 && view !== 'minutes') await this.#point(view)
    else await this.#page(view)
  }

  #waiting(): Waiting {
    if (this.#random.below(3) > 0) return {}
    return { covering: endOf(this.#cluster), timeoutMs: this.#random.below(3000) }
  }

  /** Undefined where the instance refuses, or dies before it has answered. */
  async #asked<T>(ask: (views: InstanceViews) => Promise<T>): Promise<T | undefined> {
    const serving = this.#cluster.live.filter(({ serving }) => serving !== undefined)
    if (serving.length === 0) return undefined
    const { process, serving: chosen } = this.#random.pick(serving)
    try {
      const answer = process
        .after(0, () => ask(chosen!.views))
        .then(found => process.after(0, () => found))
      const found = await Promise.race([answer, this.#death(process)])
      this.counts[found === undefined ? 'lost' : 'answered']++
      return found
    } catch (error) {
      const isRefusal = error instanceof MillraceError && refusals.includes(error.code)
      if (!isRefusal) throw error
      if (error.code === 'VIEW_NOT_READY') expect(error.message).toMatch(/partition|instance/)
      this.counts.refused++
      return undefined
    }
  }

  async #death(process: Instance['process']): Promise<undefined> {
    while (!process.dead) await this.#cluster.time.after(500, () => {})
  }

  #check(answer: Answer & Waiting): void {
    const end = endOf(this.#cluster)
    expect(faults(answer, this.#records, end)).toEqual([])
    if (answer.covering === undefined) return
    expect(faults({ ...answer, position: answer.covering }, this.#records, end)).toEqual([])
  }

  async #page(view: ReadingsView): Promise<void> {
    const waiting = this.#waiting()
    const page = await this.#asked(views => views.rows(view, { key: {}, limit: 1000, ...waiting }))
    if (page === undefined) return
    expect(page.next).toBe(null)
    expect(page.partitions).toEqual([0, 1, 2, 3])
    if (!page.consistent) this.counts.merged++
    this.#check({ view, ...page, ...waiting })
  }

  async #point(view: 'meters' | 'devices'): Promise<void> {
    const wanted = identityOf(view, this.#random.pick(this.#records))
    const waiting = this.#waiting()
    const answer = await this.#asked(views => views.row(view, wanted, waiting))
    if (answer === undefined) return
    const { row, position } = answer
    const asked = (identity: string) => identity === wanted
    this.#check({ view, rows: row === undefined ? [] : [row], position, asked, ...waiting })
  }

  /** All pages, each from another instance, while tasks move. */
  async #walk(view: ReadingsView): Promise<void> {
    const pages: RowsPage[] = []
    let cursor: string | undefined
    const limit = 1 + this.#random.below(12)
    for (let tries = 0; tries < 400; tries++) {
      const query = { key: {}, limit, ...(cursor === undefined ? {} : { cursor }) }
      const page = await this.#asked(views => views.rows(view, query))
      if (page === undefined) continue
      expect(page.rows.length).toBeLessThanOrEqual(limit)
      pages.push(page)
      cursor = page.next ?? undefined
      if (cursor === undefined) break
    }
    if (cursor !== undefined || pages.length === 0) return
    this.counts.walked++
    const rows = pages.flatMap(page => page.rows)
    const identities = rows.map(row => identityOfRow(view, row))
    const ordered = view === 'minutes' ? byWindow(rows) : [...identities].sort()
    expect(identities).toEqual(ordered)
    // Every row that the first page's position covers was there all the time.
    this.#check({ view, rows, position: pages[0]!.position })
  }

  /** Waits for all that was asked. */
  async finish(): Promise<void> {
    for (let waits = 0; this.#reading.size > 0; waits++) {
      expect(waits, 'nothing comes of a read').toBeLessThan(500)
      await this.#cluster.time.run(200)
    }
    if (this.#failure !== undefined) throw this.#failure
  }

  /** At rest every instance has everything. */
  async checkRest(): Promise<void> {
    const covering = endOf(this.#cluster)
    const reads = this.#cluster.live.flatMap(({ serving }) => [
      ...views.map(async view => {
        const query = { key: {}, limit: 1000, covering, timeoutMs: 2000 }
        this.#check({ view, ...(await serving!.views.rows(view, query)), covering })
      }),
      ...(['meters', 'devices'] as const).map(async view => {
        const { row } = await serving!.views.row(view, 'nobody', { covering, timeoutMs: 2000 })
        expect(row).toBe(undefined)
      }),
    ])
    for (const reading of reads) this.#reading.add(reading)
    const done = Promise.all(reads).finally(() => this.#reading.clear())
    done.catch(() => {})
    await this.finish()
    await done
  }
}

function byWindow(rows: readonly Readonly<Record<string, unknown>>[]): string[] {
  const places = rows.map(row => [Number(row.windowStart), String(row.meter)] as const)
  places.sort(([a, m], [b, n]) => a - b || (m < n ? -1 : 1))
  return places.map(([start, meter]) => `${meter}@${start}`)
}
