/** Law 13: a large close is spread over epochs, its progress committed. */
import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { MemoryDatabase } from '../../state/memory-database.ts'
import type { EngineSettings } from '../../streams/environment.ts'
import {
  json,
  type Stream,
  sessions,
  sliding,
  Topology,
  text,
  textKey,
  tumbling,
  type Windowed,
} from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { checkStores } from '../oracle/harness.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const DAY = 24 * 60 * 60 * 1000
const MINUTE = 60_000
const FAR = 300 * DAY
const lines = { key: textKey(), value: text() }

type Events = Stream<string, number>
type Results = Stream<string, string>

const byKey = (events: Events) =>
  events.groupBy((_, key) => key, { name: 'by-key', key: textKey() })
const named = (count: unknown, { key, windowStart }: Windowed<string>): [string, string] => [
  key,
  `${windowStart}=${JSON.stringify(count)}`,
]
const WINDOW = tumbling(MINUTE, { graceMs: 0 })

/** Every kind of step that closes, expires or calls timers, with a result a key. */
const steps: Record<string, (events: Events) => Results> = {
  'tumbling window': events =>
    byKey(events).windowedBy(WINDOW).count({ name: 'step', emit: 'close' }).toStream().map(named),
  session: events =>
    byKey(events)
      .windowedBy(sessions(MINUTE, { graceMs: 10 }))
      .count({ name: 'step', emit: 'close' })
      .toStream()
      .map(named),
  'sliding window': events =>
    byKey(events)
      .windowedBy(sliding(MINUTE, { graceMs: 0 }))
      .count({ name: 'step', emit: 'close' })
      .toStream()
      .map(named),
  'top-k': events =>
    byKey(events)
      .windowedBy(WINDOW)
      .topK<number>({
        name: 'step',
        k: 2,
        item: value => `i${value}`,
        initial: () => 0,
        add: (sum, value) => sum + value,
        score: sum => sum,
        emit: 'close',
      })
      .toStream()
      .map((entry, { key, windowStart }) => [key.group, `${windowStart} ${entry?.item}`]),
  'left join': events => {
    const others = events.topology.stream('others', { key: textKey(), value: json<number>() })
    const joiner = (left: number, right: number | null) => `${left} ${right}`
    return events.leftJoin(others, joiner, {
      name: 'step',
      beforeMs: MINUTE,
      afterMs: MINUTE,
      graceMs: 0,
    })
  },
  'sequence of records': events =>
    byKey(events)
      .stream.matchSequence<'only'>({
        name: 'step',
        steps: [{ name: 'only', where: value => value > 0 }],
        withinMs: MINUTE,
        graceMs: MINUTE,
        written: { key: textKey(), value: json<number>() },
      })
      .mapValues(({ events: { only } }) => `${only}`),
  'rows that forget': events =>
    byKey(events)
      .aggregate<number>({
        name: 'step',
        initial: () => 0,
        add: (sum, value) => sum + value,
        ttlMs: MINUTE,
      })
      .toStream()
      .mapValues(sum => `${sum}`),
  timers: events =>
    events.process({
      name: 'step',
      key: textKey(),
      keepsKeys: true,
      stores: {},
      results: lines,
      create: context => ({
        process: ({ key, timeMs }) =>
          context.schedule({ clock: 'event', atMs: timeMs + MINUTE, key, name: 'due' }),
        onTimer: ({ key, atMs }) => context.forward(key, `${atMs}`),
      }),
    }),
  'rows with windows of their own': events =>
    events
      .toWindows({
        name: 'step',
        key: textKey(),
        window: value => ({ windowStart: value, windowEnd: value + 1 }),
        retentionMs: MINUTE,
      })
      .toStream()
      .map(named),
}

function topologyOf(step: (events: Events) => Results): Topology {
  const topology = new Topology('large')
  step(topology.stream('events', { key: textKey(), value: json<number>() })).to('out', lines)
  return topology
}

const KEYS = 600
const ROWS_MAX = 50
/** Rows of one store that a closed key may touch: marks, bounds and the row, or items and ranks. */
const WRITES_A_ROW = 3

const event = (i: number, timeMs: number) => ({ key: `k${i}`, value: 1 + (i % 7), timeMs })
const many = (count = KEYS) => Array.from({ length: count }, (_, i) => event(i, 1000 + (i % 9)))

/** What each epoch has in memory and sends; and how many epochs there were. */
class Watched {
  epochs = 0
  overlayMax = 0
  sentMax = 0
  #sent = 0
  driver!: TopologyTestDriver

  readonly reached = (point: string): void => {
    if (point !== 'run') return
    const { stores, sinks } = this.driver.engine.assembly
    for (const { metrics } of stores) {
      this.overlayMax = Math.max(this.overlayMax, metrics.overlayRows)
    }
    this.sentMax = Math.max(this.sentMax, sinks.recordsWritten - this.#sent)
    this.#sent = sinks.recordsWritten
    this.epochs++
  }

  reset(): void {
    Object.assign(this, { epochs: 0, overlayMax: 0, sentMax: 0 })
  }
}

interface Opening {
  readonly settings?: Partial<EngineSettings>
  readonly database?: MemoryDatabase
  readonly reached?: (point: string) => void
}

async function start(topology: Topology, { settings, ...rest }: Opening = {}) {
  const driver = await TopologyTestDriver.open(topology, {
    startMs: 400 * DAY,
    settings: { closeRowsMax: ROWS_MAX, ...settings },
    ...rest,
  })
  open.push(driver)
  return driver
}

const output = async (driver: TopologyTestDriver) =>
  (await driver.output('out', lines)).map(({ key, value }) => `${key}: ${value}`).sort()

/** The year passes: every source partition of the step gets a record of much later. */
async function pass(driver: TopologyTestDriver, timeMs = FAR): Promise<void> {
  for (const { topic } of driver.engine.plan.sources) {
    await driver.append(topic, [{ key: 'end', value: 0, timeMs }])
  }
}

for (const [name, step] of Object.entries(steps)) {
  test(`${name}: a close of many rows takes epochs, each bounded, and gives the same`, async () => {
    const watched = new Watched()
    const driver = await start(topologyOf(step), { reached: watched.reached })
    watched.driver = driver
    await driver.pipe('events', ...many())
    watched.reset()
    await pass(driver)
    await driver.process()
    expect(watched.epochs).toBeGreaterThanOrEqual(KEYS / ROWS_MAX)
    expect(watched.overlayMax).toBeLessThanOrEqual(WRITES_A_ROW * ROWS_MAX + 4)
    expect(watched.sentMax).toBeLessThanOrEqual(ROWS_MAX + 2)
    await checkStores(driver)
    const whole = await start(topologyOf(step), { settings: { closeRowsMax: 1e6 } })
    await whole.pipe('events', ...many())
    await pass(whole)
    await whole.process()
    const wanted = await output(whole)
    expect(wanted.length).toBeGreaterThanOrEqual(KEYS)
    expect(await output(driver)).toEqual(wanted)
  })

  test(`${name}: killed in the middle of a close, it goes on where it was, without input`, async () => {
    let left = Number.POSITIVE_INFINITY
    const die = () => {
      if (left-- <= 0) throw new Error('killed')
    }
    const options = { beforeCommit: die }
    let database = new MemoryDatabase(options)
    let driver = await start(topologyOf(step), { database })
    await driver.pipe('events', ...many())
    await pass(driver)
    let kills = 0
    for (;;) {
      left = 3
      try {
        await driver.process()
        break
      } catch (error) {
        expect(String(error)).toContain('killed')
        kills++
        left = Number.POSITIVE_INFINITY
        open.pop()
        database = database.reopen(options)
        driver = await start(topologyOf(step), { database })
      }
    }
    left = Number.POSITIVE_INFINITY
    expect(kills).toBeGreaterThanOrEqual(3)
    const whole = await start(topologyOf(step), { settings: { closeRowsMax: 1e6 } })
    await whole.pipe('events', ...many())
    await pass(whole)
    await whole.process()
    expect(await output(driver)).toEqual(await output(whole))
    await checkStores(driver)
  })
}

test('a timer that schedules the next, a minute on, is called for an idle day in several epochs', async () => {
  const watched = new Watched()
  const topology = new Topology('ticks')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .process({
      name: 'ticks',
      key: textKey(),
      keepsKeys: true,
      stores: {},
      results: lines,
      create: context => ({
        process: ({ key, timeMs }) =>
          context.schedule({ clock: 'event', atMs: timeMs + MINUTE, key, name: 'tick' }),
        onTimer: timer => {
          const atMs = timer.atMs + MINUTE
          context.forward(timer.key, `${timer.atMs / MINUTE}`)
          if (atMs <= DAY) context.schedule({ ...timer, atMs })
        },
      }),
    })
    .to('out', lines)
  const driver = await start(topology, { reached: watched.reached })
  watched.driver = driver
  await driver.pipe('events', { key: 'k', value: 1, timeMs: 0 })
  await driver.pipe('events', { key: 'end', value: 1, timeMs: 2 * DAY })
  const ticks = (await driver.output('out', lines)).filter(({ key }) => key === 'k')
  expect(ticks.map(({ value }) => Number(value))).toEqual(
    Array.from({ length: 1440 }, (_, i) => i + 1),
  )
  expect(watched.sentMax).toBeLessThanOrEqual(ROWS_MAX)
})

test('a timer scheduled behind those of the step waits for them, and so does the watermark', async () => {
  const topology = new Topology('far')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .process({
      name: 'timers',
      key: textKey(),
      keepsKeys: true,
      stores: {},
      results: lines,
      create: context => ({
        process: ({ key, timeMs }) =>
          context.schedule({ clock: 'event', atMs: timeMs + MINUTE, key, name: 'first' }),
        onTimer: timer => {
          context.forward(timer.key, timer.name)
          if (timer.name === 'second') return
          context.schedule({ ...timer, atMs: timer.atMs + DAY / 2, name: 'second' })
        },
      }),
    })
    .groupBy(() => 'all', { name: 'all', key: textKey() })
    .windowedBy(tumbling(60 * MINUTE, { graceMs: 0 }))
    .count({ name: 'hours', emit: 'close' })
    .toStream()
    .map((count, { windowStart }): [string, string] => [`${windowStart / MINUTE}`, `${count}`])
    .to('out', lines)
  const driver = await start(topology)
  const events = Array.from({ length: 120 }, (_, i) => event(i, i * MINUTE))
  await driver.pipe('events', ...events, { key: 'end', value: 1, timeMs: 2 * DAY })
  await driver.pipe('events', { key: 'end', value: 1, timeMs: 4 * DAY })
  const called = ['0: 59', '120: 1', '60: 60', '720: 59', '780: 60', '840: 1']
  expect(await output(driver)).toEqual(expect.arrayContaining(called))
  const dropped = driver.views.metrics().filter(({ name }) => name === 'dropped_records_total')
  expect(dropped).toEqual([])
})

test('many sessions of one key that a slow partition held open close in several epochs', async () => {
  const watched = new Watched()
  const topology = new Topology('sessions')
  byKey(topology.stream('events', { key: textKey(), value: json<number>() }))
    .windowedBy(sessions(MINUTE, { graceMs: 0 }))
    .count({ name: 'sessions', emit: 'close' })
    .toStream()
    .map(named)
    .to('out', lines)
  const settings = { idleAfterMs: Number.POSITIVE_INFINITY, closeRowsMax: ROWS_MAX }
  const { reached } = watched
  const options = { partitions: 2, startMs: 400 * DAY, settings, reached }
  const driver = await TopologyTestDriver.open(topology, options)
  open.push(driver)
  watched.driver = driver
  const at = (i: number, partition: number) => {
    return { key: 'k', value: 1, timeMs: i * 2 * MINUTE, partition }
  }
  await driver.pipe('events', ...Array.from({ length: KEYS }, (_, i) => at(i, 0)))
  watched.reset()
  await driver.pipe('events', at(10 * KEYS, 0), at(10 * KEYS, 1))
  expect(await output(driver)).toHaveLength(KEYS)
  expect(watched.sentMax).toBe(ROWS_MAX)
})

test('wall-clock timers due together are called in several epochs', async () => {
  const watched = new Watched()
  const topology = new Topology('walls')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .process({
      name: 'walls',
      key: textKey(),
      keepsKeys: true,
      stores: {},
      results: lines,
      wallClock: true,
      create: context => ({
        process: ({ key }) =>
          context.schedule({ clock: 'wall', atMs: context.wallTimeMs + 1, key, name: 'due' }),
        onTimer: ({ key }) => context.forward(key, 'called'),
      }),
    })
    .to('out', lines)
  const driver = await start(topology, { reached: watched.reached })
  watched.driver = driver
  await driver.pipe('events', ...many())
  watched.reset()
  await driver.advanceWallClock(10_000)
  expect(await output(driver)).toHaveLength(KEYS)
  expect(watched.sentMax).toBe(ROWS_MAX)
  expect(watched.epochs).toBeGreaterThanOrEqual(KEYS / ROWS_MAX)
})

/** One-minute finals summed into hours without grace: late where a final was overtaken. */
function minutesIntoHours(): Topology {
  const topology = new Topology('hours')
  byKey(topology.stream('events', { key: textKey(), value: json<number>() }))
    .windowedBy(tumbling(MINUTE, { graceMs: 10 * MINUTE }))
    .count({ name: 'minutes', emit: 'close' })
    .toStream()
    .map((count): [string, number] => ['all', count])
    .groupByKey({ name: 'again', key: textKey() })
    .windowedBy(tumbling(60 * MINUTE, { graceMs: 0 }))
    .aggregate<number>({ name: 'hours', initial: () => 0, add: (sum, n) => sum + n, emit: 'close' })
    .toStream()
    .map((sum, { windowStart }): [string, string] => [`${windowStart / MINUTE}`, `${sum}`])
    .to('out', lines)
  return topology
}

test('results that are still to be closed are not overtaken by the forwarded watermark', async () => {
  for (const closeRowsMax of [1, 2, 3]) {
    const settings = { closeRowsMax, idleAfterMs: 1000 }
    const driver = await TopologyTestDriver.open(minutesIntoHours(), {
      partitions: 2,
      startMs: 400 * DAY,
      settings,
    })
    open.push(driver)
    const events = Array.from({ length: 240 }, (_, i) => ({ ...event(i, i * MINUTE), value: 1 }))
    await driver.pipe('events', ...events)
    // Nobody waits for a partition that is idle; but what it has still to close is waited for.
    await driver.append('events', [{ key: 'end', value: 1, timeMs: FAR, partition: 0 }])
    await driver.process()
    await driver.advanceWallClock(2000)
    await driver.advanceWallClock(2000)
    expect(await output(driver)).toEqual(['0: 60', '120: 60', '180: 60', '60: 60'])
    const dropped = driver.views.metrics().filter(({ name }) => name === 'dropped_records_total')
    expect(dropped).toEqual([])
  }
})

function counted(): Topology {
  const topology = new Topology('counted')
  byKey(topology.stream('events', { key: textKey(), value: json<number>() }))
    .windowedBy(tumbling(MINUTE, { graceMs: 0 }))
    .count({ name: 'minutes', emit: 'close' })
    .toStream()
    .map((count, { key }): [string, number] => [key, count])
    .groupByKey({ name: 'again', key: textKey() })
    .aggregate<number>({ name: 'totals', initial: () => 0, add: (sum, n) => sum + n })
    .view({
      name: 'totals',
      description: 'Finals by key',
      value: { total: Type.Integer() },
      row: total => ({ total }),
    })
  return topology
}

test('input waits for a close, and a position is covered when the close is done', async () => {
  const driver = await start(counted())
  await driver.pipe('events', ...many())
  const before = driver.views.position()
  await driver.append('events', [{ key: 'end', value: 1, timeMs: FAR }])
  await driver.engine.step()
  await driver.engine.settle()
  const [source] = driver.engine.assembly.sources
  const token = (offset: number) =>
    Buffer.from(JSON.stringify([driver.log.incarnation, { events: [offset] }])).toString(
      'base64url',
    )
  const covered = (offset: number) => {
    const waiting = driver.views.waitFor(token(offset), 1)
    driver.tick(1)
    return waiting
  }
  expect(source!.position).toBe(KEYS + 1)
  expect(driver.views.position()).toBe(before)
  expect([await covered(KEYS), await covered(KEYS + 1)]).toEqual([true, false])
  await driver.append('events', [{ key: 'later', value: 1, timeMs: FAR + 1 }])
  await driver.engine.step()
  expect(source!.position, 'nothing is read meanwhile').toBe(KEYS + 1)
  await driver.process()
  expect([source!.position, await covered(KEYS + 2)]).toEqual([KEYS + 2, true])
  expect(await driver.rows('totals')).toHaveLength(KEYS)
})

test('an engine that starts in the middle of a close covers nothing until it is done', async () => {
  const database = new MemoryDatabase()
  const first = await start(counted(), { database })
  await first.pipe('events', ...many())
  await first.append('events', [{ key: 'end', value: 1, timeMs: FAR }])
  await first.engine.step()
  await first.close()
  open.pop()
  const driver = await start(counted(), { database })
  const position = JSON.parse(Buffer.from(driver.views.position(), 'base64url').toString())
  expect(position[1]).toEqual({ events: [-1] })
  await driver.process()
  expect(await driver.rows('totals')).toHaveLength(KEYS)
})

test('who follows a view from the middle of a close on gets the rest, at one position', async () => {
  const driver = await start(counted())
  await driver.pipe('events', ...many())
  await driver.append('events', [{ key: 'end', value: 1, timeMs: FAR }])
  await driver.engine.step()
  await driver.engine.step()
  await driver.engine.settle()
  const seen = new Set<unknown>()
  const { snapshot, close } = driver.views.subscribe('totals', ({ changes }) => {
    for (const { row } of changes) seen.add(row.key)
  })
  for await (const rows of snapshot) for (const { key } of rows) seen.add(key)
  const atFirst = seen.size
  await driver.process()
  close()
  expect(atFirst).toBeGreaterThan(0)
  expect(atFirst).toBeLessThan(KEYS)
  expect(seen.size).toBe(KEYS)
})

test('windows that idleness closes reach followers that came after the last record', async () => {
  const topology = new Topology('idle')
  byKey(topology.stream('events', { key: textKey(), value: json<number>() }))
    .windowedBy(WINDOW)
    .count({ name: 'minutes', retentionMs: DAY })
    .view({
      name: 'minutes',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  const settings = { idleAfterMs: 1000 }
  const driver = await TopologyTestDriver.open(topology, { partitions: 2, settings, startMs: DAY })
  open.push(driver)
  const at = (timeMs: number, partition: number) => ({ key: 'k', value: 1, timeMs, partition })
  await driver.pipe('events', at(1, 0), at(2 * MINUTE, 1))
  const seen: unknown[] = []
  const { close } = driver.views.subscribe('minutes', ({ changes }) => {
    for (const { row } of changes) seen.push([row.windowStart, row.final])
  })
  await driver.advanceWallClock(2000)
  await driver.advanceWallClock(2000)
  close()
  expect(seen).toEqual([[0, true]])
})

test('more windows closing at once than followers are told one by one begin them anew', async () => {
  const topology = new Topology('flood')
  byKey(topology.stream('events', { key: textKey(), value: json<number>() }))
    .windowedBy(WINDOW)
    .count({ name: 'minutes', retentionMs: 1000 * DAY })
    .view({
      name: 'minutes',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  const driver = await start(topology)
  await driver.pipe('events', ...many(51_000))
  const updates: unknown[] = []
  const { close } = driver.views.subscribe('minutes', ({ changes, reset }) =>
    updates.push([changes.length, reset]),
  )
  await driver.pipe('events', { key: 'end', value: 1, timeMs: FAR })
  close()
  expect(updates).toEqual([[0, true]])
})
