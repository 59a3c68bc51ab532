/** Steps that a running application did not have: a branch of their own; what is there stays. */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import type { Database } from '../../log/database.ts'
import { json, type Stream, Topology, text, textKey, tumbling } from '../../streams/index.ts'
import { resetApplication, resetStore } from '../../streams/reset.ts'
import { TopologyTestDriver as Driver } from '../../streams/testing/index.ts'

interface Sale {
  readonly region: string
  readonly amount: number
}

const PARTITIONS = 2
const HOUR = 3_600_000
const value = { count: Type.Integer() }
const row = (count: number) => ({ count })
const sale = (id: string, amount: number, timeMs: number, region = 'north') => ({
  key: id,
  value: { region, amount },
  timeMs,
})

type Step = (sales: Stream<string, Sale>) => void

/** Sales by their id, and what the steps make of them. */
function sales(...steps: Step[]): Topology {
  const topology = new Topology('sales')
  const stream = topology.stream('sales', { key: textKey(), value: json<Sale>() })
  for (const step of steps) step(stream)
  return topology
}

const byKey = (stream: Stream<string, Sale>) =>
  stream.groupByKey({ name: 'by-key', key: textKey() })

const byRegion = (stream: Stream<string, Sale>, name: string) =>
  stream.groupBy(({ region }) => region, { name, key: textKey() })

/** Windows of a second by the id, in the task that reads it. */
const perSecond: Step = stream =>
  byKey(stream)
    .windowedBy(tumbling(1000, { graceMs: 0 }))
    .count({ name: 'per-second', retentionMs: HOUR })
    .view({ name: 'per-second', description: 'Sales a second', value, row })

/** Behind an exchange. */
const regions: Step = stream =>
  byRegion(stream, 'by-region')
    .windowedBy(tumbling(10_000, { graceMs: 0 }))
    .count({ name: 'regions', retentionMs: HOUR })
    .view({ name: 'regions', description: 'Sales by region', value, row })

/** Each id once, and windows over what is left: a step with state above another. */
const distinct = (...steps: Step[]): Step => {
  return stream => {
    const unique = stream.deduplicate({ name: 'unique', id: (_, key) => key, ttlMs: HOUR })
    for (const step of steps) step(unique)
  }
}

const kept: Step = stream => {
  byKey(stream)
    .count({ name: 'kept' })
    .view({ name: 'kept', description: 'Sales by id', value, row })
}

interface Opening {
  readonly database?: Database
  readonly newState?: 'beginning' | 'now'
}

function open(topology: Topology, { database, newState = 'beginning' }: Opening = {}) {
  const settings = { idleAfterMs: Number.POSITIVE_INFINITY, newState }
  const options = { partitions: PARTITIONS, settings, ...(database && { database }) }
  return Driver.open(topology, options)
}

/** The same database with another topology: what a deployment is. */
async function deploy(driver: Driver, topology: Topology, opening: Opening = {}) {
  await driver.close()
  return open(topology, { ...opening, database: driver.database })
}

const inputOf = (i: number) => sale(`id-${i % 7}`, i, i * 300, i % 3 === 0 ? 'south' : 'north')
const inputs = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => inputOf(from + i))

const topics = async ({ log }: Driver) => (await log.listTopics()).map(({ name }) => name)
const changelogs = async (driver: Driver) =>
  (await topics(driver)).filter(name => name.endsWith('-changelog') && !name.includes('event-time'))

async function ends({ log }: Driver, topic: string): Promise<number[]> {
  const targets = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
  return (await log.offsets(targets)).map(({ endOffset }) => endOffset)
}

const committed = async ({ log }: Driver, topic: string) =>
  (
    await log.committed(
      'sales',
      [0, 1].map(partition => ({ topic, partition })),
    )
  ).map(found => found?.offset)

async function fromScratch(topology: Topology, view: string) {
  const driver = await open(topology)
  await driver.pipe('sales', ...inputs(40))
  await driver.pipe('sales', ...inputs(10, 40))
  const rows = await driver.rows(view)
  await driver.close()
  return rows
}

test.each([
  ['beside another', sales(perSecond), sales(perSecond, kept), 'kept'],
  ['behind an exchange', sales(perSecond), sales(perSecond, regions), 'regions'],
  ['below a step with state', sales(distinct(kept)), sales(distinct(kept, regions)), 'regions'],
])('a view added %s is what it is from scratch', async (_, before, after, view) => {
  let driver = await open(before)
  await driver.pipe('sales', ...inputs(40))
  driver = await deploy(driver, after)
  await driver.pipe('sales', ...inputs(10, 40))
  expect(await driver.rows(view)).toEqual(await fromScratch(after, view))
  expect((await driver.rows(view)).length).toBeGreaterThan(1)
  await driver.close()
})

const numbers = { key: textKey(), value: json<number>() }
const add = (a: number, b: number) => a + b

/** Two tables that are there, and a join of some kind that is not. */
function joinedShop(join?: string): Topology {
  const topology = new Topology('sales')
  const show = { name: 'joined', description: 'Joined', value, row }
  const table = (name: string) => {
    return topology.table(name, { name, ...numbers }).view({ ...show, name })
  }
  const [one, other] = [table('one'), table('other')]
  const last = (stream: Stream<string, number>) =>
    stream
      .groupByKey({ name: 'unused', key: textKey() })
      .reduce({ name: 'joined', reduce: (_, sum) => sum })
  const stream = () => topology.stream('sales', numbers)
  const joined = {
    'of tables': () => one.join(other, add, { name: 'joined' }),
    'of tables by a foreign key': () =>
      one.joinForeign(other, add, { name: 'joined', foreignKey: () => 'k' }),
    'of a stream with a table': () => last(stream().joinTable(one, add)),
    'of a stream with a table as of its time': () =>
      last(stream().joinAsOf(one, add, { name: 'priced', graceMs: 0, waits: false })),
  }[join ?? '']
  joined?.().view(show)
  return topology
}

test.each([
  'of tables',
  'of tables by a foreign key',
  'of a stream with a table',
  'of a stream with a table as of its time',
])('a join %s that are there is added', async join => {
  let driver = await open(joinedShop())
  await driver.pipe('one', { key: 'k', value: 1, timeMs: 1 })
  await driver.pipe('other', { key: 'k', value: 2, timeMs: 1 })
  driver = await deploy(driver, joinedShop(join))
  await driver.process()
  if (join.includes('stream')) await driver.pipe('sales', { key: 'k', value: 2, timeMs: 1 })
  expect(await driver.rows('joined')).toEqual([{ key: 'k', count: 3 }])
  expect(await driver.rows('one')).toEqual([{ key: 'k', count: 1 }])
  await driver.close()
})

test('what was there stays as it is: its state is not written again, nor its input read', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(40))
  const changelog = await ends(driver, 'sales-per-second-changelog')
  const offsets = await committed(driver, 'sales')
  const rows = await driver.rows('per-second')
  driver = await deploy(driver, sales(perSecond, kept))
  expect(await driver.rows('per-second')).toEqual(rows)
  await driver.process()
  const read = driver.views.metrics().filter(({ name }) => name === 'records_consumed_total')
  expect(read.map(({ labels, value }) => `${labels.branch ?? 0}: ${value}`)).toEqual(
    expect.arrayContaining(['0: 0', '0: 0']),
  )
  expect(read.reduce((sum, { value }) => sum + value, 0)).toBe(40)
  expect(await ends(driver, 'sales-per-second-changelog')).toEqual(changelog)
  expect(await committed(driver, 'sales')).toEqual(offsets)
  expect(await committed(driver, 'sales-sales.b1-positions')).toEqual(offsets)
  expect(await changelogs(driver)).toEqual([
    'sales-kept.b1-changelog',
    'sales-per-second-changelog',
  ])
  await driver.close()
})

test('what was there goes on while the new view is built, and does not wait for it', async () => {
  const settings = { idleAfterMs: Number.POSITIVE_INFINITY, epochRecordsMax: 1 }
  const first = await Driver.open(sales(perSecond), { partitions: 1, settings })
  await first.pipe('sales', ...inputs(50))
  for (let i = 0; i < 300; i++) await first.append('sales', [sale(`old-${i}`, 1, 20_000 + i)])
  await first.process()
  await first.close()
  const { database } = first
  const driver = await Driver.open(sales(perSecond, kept), { partitions: 1, settings, database })
  await driver.append('sales', [sale('live', 1, 90_000)])
  const seen = async (view: string) => {
    const page = await driver.views.rows(view, { key: { key: 'live' }, limit: 10 })
    return page.rows.length
  }
  for (let epochs = 0; (await seen('per-second')) === 0; epochs++) {
    await driver.engine.step()
    await driver.engine.settle()
    expect(epochs).toBeLessThan(5)
  }
  // The new view answers with what it has, and says so.
  expect(await seen('kept')).toBe(0)
  const [{ position, consistent }, of] = [
    await driver.views.rows('kept', { key: {}, limit: 10 }),
    await driver.views.rows('per-second', { key: {}, limit: 10 }),
  ]
  expect(consistent).toBe(false)
  expect(position).not.toBe(of.position)
  const details = driver.views.tasks().map(({ task, detail }) => `${task}: ${detail}`)
  expect(details[0]).toBe('sales/0: processing')
  expect(details[1]).toMatch(/^sales\.b1\/0: building from \d+ of 351 records$/)
  await driver.views.ready('per-second', { covering: of.position, timeoutMs: 0 })
  await driver.process()
  expect(await seen('kept')).toBe(1)
  const { consistent: even } = await driver.views.rows('kept', { key: {}, limit: 10 })
  expect(even).toBe(true)
  await driver.close()
})

test('a large close of one branch, a step an epoch, keeps no other from reading', async () => {
  const settings = { idleAfterMs: Number.POSITIVE_INFINITY, closeRowsMax: 2 }
  const finals: Step = stream => {
    byRegion(stream, 'for-finals')
      .windowedBy(tumbling(1000, { graceMs: 0 }))
      .count({ name: 'finals', emit: 'close' })
      .toStream()
      .map((count, { key, windowStart }) => [`${key}@${windowStart}`, `${count}`])
      .to('finals', { key: textKey(), value: text() })
  }
  const first = await Driver.open(sales(kept), { partitions: 1, settings })
  // Thirty windows that only the last record closes.
  for (let i = 0; i < 30; i++) await first.append('sales', [sale(`s-${i}`, 1, 100, `r-${i}`)])
  await first.pipe('sales', sale('end', 1, 500_000))
  await first.close()
  const { database } = first
  const driver = await Driver.open(sales(kept, finals), { partitions: 1, settings, database })
  const { engine } = driver
  const results: number[] = []
  const step = async () => {
    await engine.step()
    await engine.settle()
    const lines = await driver.output('finals', { key: textKey(), value: text() })
    results.push(lines.length)
  }
  while (engine.assembly.closing.size === 0) await step()
  expect([...engine.assembly.closing]).toEqual([1])
  results.length = 0
  for (let i = 0; i < 4; i++) {
    // So far apart that each takes a round of its own.
    for (const j of [1, 2, 3]) {
      await driver.append('sales', [sale(`live-${i}`, 1, 1_000_000 * (3 * i + j))])
    }
    await step()
    const { rows } = await driver.views.rows('kept', { key: { key: `live-${i}` }, limit: 1 })
    expect(rows).toMatchObject([{ count: 3 }])
  }
  expect([...engine.assembly.closing]).toEqual([1])
  expect(results).toEqual([2, 2, 2, 2])
  await driver.close()
})

test('a step with state above is kept twice, and counts what it drops once', async () => {
  const dead = async (driver: Driver) =>
    (await driver.output('sales-dead-letters', { key: textKey(), value: text() })).map(
      ({ headers: h }) => `${h.dl_step} ${h.dl_reason} ${h.dl_partition}@${h.dl_offset}`,
    )
  let driver = await open(sales(distinct(kept)))
  await driver.pipe('sales', ...inputs(20))
  const before = await dead(driver)
  expect(before).toHaveLength(13)
  driver = await deploy(driver, sales(distinct(kept, perSecond)))
  await driver.pipe('sales', sale('id-0', 1, 9_000), sale('late', 1, 100))
  const after = await dead(driver)
  // The new windows alone drop what is late for them, over all of their input.
  expect(after.filter(line => line.startsWith('unique'))).toHaveLength(14)
  expect(after.filter(line => line.startsWith('per-second late'))).toHaveLength(1)
  expect(after).toHaveLength(15)
  const dropped = driver.views.metrics().filter(({ name }) => name === 'dropped_records_total')
  expect(dropped.map(({ labels: { step, reason } }) => `${step} ${reason}`).sort()).toEqual([
    'per-second late',
    'unique duplicate',
  ])
  expect(await changelogs(driver)).toContain('sales-unique.copy1-changelog')
  await driver.close()
})

test('records that cannot be read are refused once', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', sale('a', 1, 1), { key: 'b', value: null, timeMs: -5 })
  driver = await deploy(driver, sales(perSecond, kept))
  await driver.pipe('sales', { key: 'c', value: null, timeMs: -5 })
  const letters = await driver.output('sales-dead-letters', { key: textKey(), value: text() })
  expect(letters).toHaveLength(2)
  await driver.close()
})

test('with `now` a new view begins with what comes', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(40))
  driver = await deploy(driver, sales(perSecond, kept), { newState: 'now' })
  await driver.pipe('sales', sale('new', 1, 50_000))
  expect(await driver.rows('kept')).toMatchObject([{ key: 'new', count: 1 }])
  expect((await topics(driver)).filter(name => /\.b\d/.test(name))).toEqual([])
  await driver.close()
})

test('each deployment adds a branch; a restart adds none', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(20))
  driver = await deploy(driver, sales(perSecond, kept))
  await driver.pipe('sales', ...inputs(10, 20))
  driver = await deploy(driver, sales(perSecond, kept))
  await driver.pipe('sales', ...inputs(10, 30))
  const all = sales(perSecond, kept, regions)
  driver = await deploy(driver, all)
  await driver.pipe('sales', ...inputs(10, 40))
  for (const view of ['per-second', 'kept', 'regions']) {
    expect(await driver.rows(view), view).toEqual(await fromScratch(all, view))
  }
  expect(await changelogs(driver)).toEqual([
    'sales-kept.b1-changelog',
    'sales-per-second-changelog',
    'sales-regions.b2-changelog',
  ])
  await driver.close()
})

test('a reset makes one branch of everything', async () => {
  const all = sales(perSecond, kept)
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(40))
  driver = await deploy(driver, all)
  await driver.pipe('sales', ...inputs(10, 40))
  await driver.engine.stop()
  const { database, log } = driver
  await resetApplication({ application: 'sales', inputs: ['sales'], database, log })
  driver = await deploy(driver, all)
  expect((await topics(driver)).filter(name => /\.(b|copy)\d/.test(name))).toEqual([])
  await driver.process()
  expect(await driver.rows('kept')).toEqual(await fromScratch(all, 'kept'))
  await driver.close()
})

test('a store that is reset is built anew, and nothing else', async () => {
  const all = sales(perSecond, kept)
  let driver = await open(all)
  await driver.pipe('sales', ...inputs(40))
  const options = { application: 'sales', database: driver.database, log: driver.log }
  await driver.engine.stop()
  const planned = await resetStore({ ...options, store: 'kept', dryRun: true })
  expect(planned).toEqual(['sales-kept-changelog'])
  expect(await resetStore({ ...options, store: 'kept' })).toEqual(planned)
  expect(await resetStore({ ...options, store: 'kep' })).toEqual([])
  driver = await deploy(driver, all)
  expect(await driver.rows('kept')).toEqual([])
  expect(await changelogs(driver)).toEqual([
    'sales-kept.b1-changelog',
    'sales-per-second-changelog',
  ])
  await driver.pipe('sales', ...inputs(10, 40))
  for (const view of ['kept', 'per-second']) {
    expect(await driver.rows(view)).toEqual(await fromScratch(all, view))
  }
  await driver.close()
})

test('steps that are added before a branch has begun join it', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(20))
  driver = await deploy(driver, sales(perSecond, kept))
  driver = await deploy(driver, sales(perSecond, kept, regions))
  expect(await changelogs(driver)).toEqual([
    'sales-kept.b1-changelog',
    'sales-per-second-changelog',
    'sales-regions.b1-changelog',
  ])
  await driver.process()
  expect(await driver.rows('kept')).toHaveLength(7)
  await driver.close()
})

test('a view that was removed goes on where it was, when nobody read on without it', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(20))
  driver = await deploy(driver, sales(perSecond, kept))
  await driver.process()
  driver = await deploy(driver, sales(perSecond))
  await driver.pipe('sales', ...inputs(20, 20))
  expect(await topics(driver)).toContain('sales-kept.b1-changelog')
  const all = sales(perSecond, kept)
  driver = await deploy(driver, all)
  await driver.pipe('sales', ...inputs(10, 40))
  expect(await driver.rows('kept')).toEqual(await fromScratch(all, 'kept'))
  await driver.close()
})

test('a view that was removed while its input was read on is refused, and built under a new name', async () => {
  let driver = await open(sales(perSecond, kept))
  await driver.pipe('sales', ...inputs(20))
  driver = await deploy(driver, sales(perSecond))
  await driver.pipe('sales', ...inputs(20, 20))
  await driver.close()
  const { database } = driver
  await expect(open(sales(perSecond, kept), { database })).rejects.toMatchObject({
    code: 'STATE_PASSED',
    message: expect.stringContaining('sales-kept-changelog'),
  })
  driver = await open(sales(perSecond), { database })
  await driver.log.deleteTopic('sales-kept-changelog')
  await driver.close()
  const all = sales(perSecond, kept)
  driver = await open(all, { database })
  await driver.pipe('sales', ...inputs(10, 40))
  expect(await driver.rows('kept')).toEqual(await fromScratch(all, 'kept'))
  await driver.close()
})

test('so is one behind an exchange that was removed with it', async () => {
  let driver = await open(sales(perSecond, regions))
  await driver.pipe('sales', ...inputs(20))
  // Nothing is read meanwhile: it goes on.
  driver = await deploy(driver, sales(perSecond))
  driver = await deploy(driver, sales(perSecond, regions))
  await driver.pipe('sales', ...inputs(10, 20))
  driver = await deploy(driver, sales(perSecond))
  await driver.pipe('sales', ...inputs(10, 30))
  await driver.close()
  const { database } = driver
  const all = sales(perSecond, regions)
  await expect(open(all, { database })).rejects.toMatchObject({ code: 'STATE_PASSED' })
  driver = await open(sales(perSecond), { database })
  const { log } = driver
  await resetStore({ application: 'sales', store: 'regions', database, log })
  driver = await deploy(driver, all)
  await driver.pipe('sales', ...inputs(10, 40))
  expect(await driver.rows('regions')).toEqual(await fromScratch(all, 'regions'))
  await driver.close()
})

test('a view is built from what its input still holds', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(40))
  for (const partition of [0, 1]) {
    const [range] = await driver.log.offsets([{ topic: 'sales', partition }])
    await driver.log.deleteRecords({ topic: 'sales', partition }, range!.endOffset - 2)
  }
  driver = await deploy(driver, sales(perSecond, kept))
  await driver.process()
  const rows = await driver.rows('kept')
  expect(rows.reduce((sum, { count }) => sum + Number(count), 0)).toBe(4)
  await driver.close()
})

test('records that are deleted between its start and its first read are no loss', async () => {
  let driver = await open(sales(perSecond))
  await driver.pipe('sales', ...inputs(40))
  driver = await deploy(driver, sales(perSecond, kept))
  for (const partition of [0, 1]) await driver.log.deleteRecords({ topic: 'sales', partition }, 2)
  await driver.process()
  const rows = await driver.rows('kept')
  expect(rows.reduce((sum, { count }) => sum + Number(count), 0)).toBe(36)
  await driver.close()
})

test('steps that ran together are not parted: their event time is one', async () => {
  const joined = (part: boolean) => {
    const topology = new Topology('sales')
    const serdes = { key: textKey(), value: json<Sale>() }
    const stream = topology.stream('sales', serdes)
    perSecond(stream)
    const returns = topology.stream('returns', serdes)
    const within = { name: 'returned', beforeMs: 10, afterMs: 10, graceMs: 0 }
    if (!part) stream.join(returns, a => a, within).to('returned', serdes)
    else returns.to('returned', serdes)
    return topology
  }
  const driver = await open(joined(false))
  await driver.pipe('sales', ...inputs(20))
  await driver.close()
  const { database } = driver
  await expect(open(joined(true), { database })).rejects.toMatchObject({ code: 'TOPOLOGY_CHANGED' })
})

test('a step with state does not go on below one that is new; with `now` it does', async () => {
  const driver = await open(sales(kept))
  await driver.pipe('sales', ...inputs(20))
  await driver.close()
  const { database } = driver
  const below = sales(distinct(kept))
  await expect(open(below, { database })).rejects.toMatchObject({
    code: 'TOPOLOGY_CHANGED',
    message: expect.stringContaining('kept has state, and is now made of what unique makes'),
  })
  const again = await open(below, { database, newState: 'now' })
  await again.pipe('sales', sale('id-0', 1, 9_000), sale('id-0', 1, 9_001))
  const { rows } = await again.views.rows('kept', { key: { key: 'id-0' }, limit: 1 })
  expect(rows).toMatchObject([{ count: 4 }])
  await again.close()
})

test('names that branches give are refused', () => {
  expect(() =>
    sales(stream => {
      byKey(stream).count({ name: 'kept.b1' })
    }),
  ).toThrow(/ends as Millrace's own names/)
})
