/** The feed of a view that is spread, its parts in the test's hand. */
import { expect, test } from 'vitest'
import type { LocalViews } from '../../streams/local-views.ts'
import { MergedFeed } from '../../streams/merged-feed.ts'
import type { Placement } from '../../streams/placement.ts'
import { decodePosition, encodePosition } from '../../streams/position.ts'
import type { Peer } from '../../streams/remote-views.ts'
import type { PartPage, PartQuery, PartUpdate, PartViews, ViewUpdate } from '../../streams/views.ts'

const incarnation = 'log'

/** One instance's part: rows `key: count`, and the cut that they are of. */
class HandPart implements PartViews {
  readonly partitions: number[]
  cut = 1
  rowsHere: Record<string, number> = {}
  followers = 0
  /** Called before each page. */
  onPage: () => void | Promise<void> = () => {}
  #onUpdate: (update: PartUpdate) => void = () => {}

  constructor(...partitions: number[]) {
    this.partitions = partitions
  }

  get position(): string {
    const offsets = { topic: [0, 1, 2].map(p => (this.partitions.includes(p) ? this.cut : null)) }
    return encodePosition({ incarnation, offsets, mark: this.cut })
  }

  follow(_view: string, onUpdate: (update: PartUpdate) => void): () => void {
    this.followers++
    this.#onUpdate = onUpdate
    this.tell()
    return () => {
      this.followers--
      this.#onUpdate = () => {}
    }
  }

  /** A reset, to these partitions. */
  tell(partitions: readonly number[] = this.partitions): void {
    const { position } = this
    this.#onUpdate({ position, partitions, changes: [], reset: true })
  }

  /** Commits; the update comes when `deliver` is called. */
  put(rows: Record<string, number>): { deliver(): void } {
    this.cut++
    Object.assign(this.rowsHere, rows)
    const { position, partitions } = this
    const changes = Object.entries(rows).map(([key, count]) => {
      return { op: 'upsert', row: { key, count } } as const
    })
    return { deliver: () => this.#onUpdate({ position, partitions, changes }) }
  }

  async rows(_view: string, { cursor = '', limit }: PartQuery): Promise<PartPage> {
    await this.onPage()
    const keys = Object.keys(this.rowsHere).sort()
    const left = keys.filter(key => key > cursor)
    const rows = left.slice(0, limit).map(key => {
      return { key, partition: this.partitions[0]!, row: { key, count: this.rowsHere[key] } }
    })
    const next = left.length > limit ? rows.at(-1)!.key : null
    return { rows, position: this.position, next }
  }

  row(): never {
    throw new Error('nobody asks for one row')
  }
}

function spread() {
  const here = new HandPart(0)
  const there = new HandPart(1, 2)
  const timers: (() => void)[] = []
  const peers: Peer[] = [{ host: 'b', port: 1 }]
  let replace = () => {}
  const feed = new MergedFeed({
    view: 'view',
    local: here as unknown as LocalViews,
    remote: { id: 'run', self: undefined, at: () => there },
    placement: { partitions: () => [0, 1, 2], peers: () => peers } as unknown as Placement,
    onPlacement: listener => {
      replace = listener
      return () => {}
    },
    schedule: task => {
      timers.push(task)
      return () => void timers.splice(timers.indexOf(task), 1)
    },
    incarnation,
  })
  const updates: ViewUpdate[] = []
  const { close } = feed.subscribe(update => updates.push(update), null)
  const begin = () => {
    const subscription = feed.subscribe(() => {}, { key: {} })
    return { ...read(subscription.snapshot), subscription }
  }
  return { here, there, feed, updates, timers, peers, begin, close, replace: () => replace() }
}

/** Reads a snapshot; `state` tells how far it is. */
function read(snapshot: AsyncIterable<readonly unknown[]>) {
  const rows: unknown[] = []
  const state = { done: false, error: undefined as unknown }
  const reading = (async () => {
    for await (const chunk of snapshot) rows.push(...chunk)
    state.done = true
  })().catch(error => {
    state.error = error
  })
  return { rows, state, reading }
}

const settled = async () => {
  for (let turns = 0; turns < 5; turns++) await new Promise(resolve => setImmediate(resolve))
}
const offsetsOf = (position: string) => decodePosition(position).offsets.topic

test('changes of all parts flow, each with a position of its own that covers the least', async () => {
  const { here, there, updates } = spread()
  here.put({ a: 1 }).deliver()
  there.put({ b: 1 }).deliver()
  there.put({ b: 2 }).deliver()
  expect(updates.map(({ changes }) => changes.map(({ row }) => row))).toEqual([
    [{ key: 'a', count: 1 }],
    [{ key: 'b', count: 1 }],
    [{ key: 'b', count: 2 }],
  ])
  expect(updates.map(({ position }) => offsetsOf(position))).toEqual([
    [2, 1, 1],
    [2, 2, 2],
    [2, 3, 3],
  ])
  expect(new Set(updates.map(({ position }) => position)).size).toBe(3)
})

test('a snapshot has the rows of all parts in order, page by page', async () => {
  const { here, there, begin } = spread()
  for (let i = 0; i < 1200; i++) (i % 3 === 0 ? here : there).rowsHere[`k${10_000 + i}`] = i
  const { rows, state, reading } = begin()
  await reading
  expect(state).toEqual({ done: true, error: undefined })
  expect(rows.map(row => (row as { count: number }).count)).toEqual([...Array(1200).keys()])
})

test('a snapshot ends when the feed has reached its rows: none of them goes back', async () => {
  const { there, begin, updates } = spread()
  there.put({ b: 1 }).deliver()
  const newer = there.put({ b: 2 })
  const { rows, state, reading } = begin()
  await settled()
  expect([rows, state.done]).toEqual([[{ key: 'b', count: 2 }], false])
  newer.deliver()
  await reading
  expect(state.done).toBe(true)
  expect(updates.at(-1)!.changes).toEqual([{ op: 'upsert', row: { key: 'b', count: 2 } }])
})

test('a part that may have missed updates makes the whole begin anew, all parts present or not', async () => {
  const { here, there, updates, begin } = spread()
  here.tell()
  expect(updates.map(({ reset }) => reset)).toEqual([true])
  there.tell([])
  expect(updates.map(({ reset }) => reset)).toEqual([true, true])
  const broken = begin()
  here.put({ a: 1 }).deliver()
  await settled()
  expect([broken.rows, broken.state.done]).toEqual([[], false])
  // What came meanwhile is in the snapshot, which had to wait.
  expect(updates).toHaveLength(2)
  there.tell()
  await broken.reading
  expect(broken.rows).toEqual([{ key: 'a', count: 1 }])
  expect(updates).toHaveLength(2)
})

test('a snapshot that a reset overtakes ends with an error and never as whole', async () => {
  const { there, begin } = spread()
  there.rowsHere = { b: 1 }
  const overtaken = begin()
  there.onPage = () => there.tell()
  await overtaken.reading
  expect(overtaken.state).toMatchObject({ done: false, error: { code: 'VIEW_NOT_READY' } })
})

test('a partition in two parts is in none, until one of them has given it up', async () => {
  const { here, there, begin } = spread()
  there.tell([0, 1, 2])
  const { state, reading } = begin()
  await settled()
  expect(state.done).toBe(false)
  here.tell([])
  await reading
  expect(state.done).toBe(true)
})

test('who waits too long is told, and nothing is left behind', async () => {
  const { here, there, begin, close, timers } = spread()
  there.tell([])
  const waiting = begin()
  await settled()
  expect(timers).toHaveLength(1)
  timers[0]!()
  await waiting.reading
  expect(waiting.state.error).toMatchObject({ code: 'VIEW_NOT_READY' })
  const left = begin()
  await settled()
  left.subscription.close()
  await left.reading
  expect(left.state.error).toMatchObject({ code: 'VIEW_NOT_READY' })
  expect(timers).toEqual([])
  waiting.subscription.close()
  close()
  expect([here.followers, there.followers]).toEqual([0, 0])
})

test('an instance that the group no longer names is no longer followed', async () => {
  const { there, peers, replace, updates } = spread()
  expect(there.followers).toBe(1)
  peers.length = 0
  replace()
  expect(there.followers).toBe(0)
  expect(updates.map(({ reset }) => reset)).toEqual([true])
})
