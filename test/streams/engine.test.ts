/** The epoch loop when things go wrong, and what queries see while it runs. */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import type { Database, WriteBatch } from '../../log/database.ts'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { Engine } from '../../streams/engine.ts'
import { assert } from '../../streams/errors.ts'
import { json, Topology, text, textKey, tumbling, viewService } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

const DAY = 24 * 60 * 60 * 1000

function counts(emit: 'update' | 'close' = 'update'): Topology {
  const topology = new Topology('counts')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .groupBy((_, key) => key, { name: 'by-key', key: textKey() })
    .windowedBy(tumbling(1000, { graceMs: 0 }))
    .count({ name: 'counts', emit, retentionMs: DAY })
    .view({
      name: 'counts',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  return topology
}

const event = (timeMs: number, partition = 0, key = 'k') => ({ key, value: 1, timeMs, partition })
const dead = async (driver: TopologyTestDriver) =>
  (await driver.output('counts-dead-letters', { key: textKey(), value: text() })).map(
    ({ headers }) =>
      `${headers.dl_reason} ${headers.dl_topic}-${headers.dl_partition}@${headers.dl_offset}`,
  )

/** Passes everything through, but fails the commits that `fails` says, counted from 1. */
function failing(database: Database, fails: (commit: number) => boolean): Database {
  let commits = 0
  const wrapped: Database = Object.create(database, {
    batch: {
      value: (): WriteBatch => {
        const batch = database.batch()
        return Object.create(batch, {
          commit: {
            value: () => {
              if (!fails(++commits)) return batch.commit()
              batch.discard()
              return Promise.reject(new Error('no space left on device'))
            },
          },
          size: { get: () => batch.size },
          put: { value: batch.put.bind(batch) },
          delete: { value: batch.delete.bind(batch) },
          deleteRange: { value: batch.deleteRange.bind(batch) },
          discard: { value: batch.discard.bind(batch) },
        }) as WriteBatch
      },
    },
    getMany: { value: database.getMany.bind(database) },
    scan: { value: database.scan.bind(database) },
    snapshot: { value: database.snapshot.bind(database) },
    close: { value: database.close.bind(database) },
    openHandles: { get: () => database.openHandles },
  })
  return wrapped
}

const environment = {
  clock: () => 5_000_000,
  schedule(task: () => void) {
    const timer = setTimeout(task, 1)
    return () => clearTimeout(timer)
  },
  randomBytes: (size: number) => Buffer.alloc(size, 1),
  yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
}

const tokenOf = ({ incarnation }: EventLog, offsets: Record<string, number[]>) =>
  Buffer.from(JSON.stringify([incarnation, offsets])).toString('base64url')

/** As a broker does that has not written the end of the last transaction everywhere yet. */
function withLateMarker(log: EventLog): () => void {
  const fetch = log.fetch.bind(log)
  let isWritten = false
  log.fetch = async (requests, options) => {
    const ends = await log.offsets(requests)
    const real = requests.map((request, i) => {
      return { ...request, offset: Math.min(request.offset, ends[i]!.endOffset) }
    })
    const responses = await fetch(real, options)
    return responses.map((response, i) => {
      const { endOffset } = ends[i]!
      const isNext = isWritten && response.nextOffset === endOffset
      return isNext
        ? { ...response, nextOffset: endOffset + 1, endOffset: endOffset + 1 }
        : response
    })
  }
  return () => {
    isWritten = true
  }
}

test('a marker that comes after its records is covered, though no record follows', async () => {
  const database = new MemoryDatabase()
  const log = await openEmbeddedLog(database, environment)
  const markers = withLateMarker(log)
  const settings = { createPartitions: 2 }
  const engine = await Engine.open({ topology: counts(), log, database, environment, settings })
  const { schedule } = environment
  const views = viewService({ engine, schedule, incarnation: log.incarnation })
  const builder = new RecordBatchBuilder()
  const slice = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })
  for (let i = 0; i < 3; i++) builder.append(i, slice('k'), slice('1'))
  const transaction = log.begin()
  transaction.append({ topic: 'events', partition: 0 }, builder.finish())
  await transaction.commit()
  await engine.drain()
  expect(await views.waitFor(tokenOf(log, { events: [3, 0] }), 0)).toBe(true)
  markers()
  expect(await views.waitFor(tokenOf(log, { events: [4, 1] }), 0)).toBe(false)
  await engine.drain()
  expect(await views.waitFor(tokenOf(log, { events: [4, 1] }), 0)).toBe(true)
  const { epochs } = engine
  await engine.drain()
  expect(engine.epochs).toBe(epochs)
  await engine.stop()
  await log.close()
})

test('an epoch whose commit fails is run again from committed state, with the one over it', async () => {
  let failures = 0
  let armed = false
  const inner = new MemoryDatabase()
  const database = failing(inner, commit => armed && commit % 2 === 0 && ++failures <= 5)
  const log = await openEmbeddedLog(database, environment)
  const settings = { createPartitions: 2, epochMsMax: 0, bufferBytesMax: 400 }
  const errors: unknown[] = []
  const onError = (error: unknown) => errors.push(error)
  const engine = await Engine.open({
    topology: counts(),
    log,
    database,
    environment,
    settings,
    onError,
  })
  const { schedule } = environment
  const views = viewService({ engine, schedule, incarnation: log.incarnation })
  for (let chunk = 0; chunk < 40; chunk++) {
    const builder = new RecordBatchBuilder()
    for (let i = 0; i < 50; i++) {
      const key = Buffer.from(`k${i % 5}`)
      const value = Buffer.from('1')
      const slice = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
      builder.append(chunk * 10 + i, slice(key), slice(value))
    }
    const transaction = log.begin()
    transaction.append({ topic: 'events', partition: chunk % 2 }, builder.finish())
    await transaction.commit()
  }
  armed = true
  const running = engine.run()
  const offsets = { events: [1000, 1000] }
  const token = tokenOf(log, offsets)
  while (!(await views.waitFor(token, 500))) expect(engine.state).not.toBe('failed')
  expect(failures).toBeGreaterThan(3)
  expect(errors.length).toBeGreaterThan(3)
  const { rows } = await views.rows('counts', { key: {}, limit: 100 })
  expect(rows.map(({ count }) => count)).toEqual(new Array(5).fill(400))
  await engine.stop()
  await running
  await log.close()
  expect(inner.openHandles).toBe(0)
})

test('missing, negative and far-future timestamps are dead letters and move nothing', async () => {
  const driver = await TopologyTestDriver.open(counts(), { startMs: 10 * DAY })
  const ahead = 11 * DAY + 1
  await driver.pipe('events', event(10), event(-1), event(-5), event(ahead), event(20))
  expect(await dead(driver)).toEqual([
    'poison events-0@1',
    'poison events-0@2',
    'poison events-0@3',
  ])
  expect(await driver.rows('counts')).toMatchObject([{ count: 2, final: false }])
  await driver.pipe('events', event(5000))
  expect(await driver.rows('counts')).toMatchObject([{ final: true }, { count: 1 }])
  await driver.close()
})

test('poison bytes are dead letters with their place, and the next record is processed', async () => {
  const driver = await TopologyTestDriver.open(counts())
  const builder = new RecordBatchBuilder()
  const slice = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })
  builder.append(1, slice('k'), slice('{"broken'))
  builder.append(2, slice('k'), slice('1'))
  await driver.appendRaw('events', 0, builder.finish())
  await driver.process()
  expect(await dead(driver)).toEqual(['poison events-0@0'])
  expect(await driver.rows('counts')).toMatchObject([{ key: 'k', count: 1 }])
  await driver.close()
})

test('a null key is dropped with its reason', async () => {
  const driver = await TopologyTestDriver.open(counts())
  await driver.pipe('events', { ...event(1), key: null }, event(2))
  expect(await dead(driver)).toEqual(['null-key events-0@0'])
  expect(await driver.rows('counts')).toMatchObject([{ count: 1 }])
  await driver.close()
})

test('`__proto__` and other names of objects are keys like any other', async () => {
  const driver = await TopologyTestDriver.open(counts())
  const keys = ['__proto__', 'constructor', 'toString', '1', '']
  await driver.pipe('events', ...keys.map(key => event(1, 0, key)))
  expect((await driver.rows('counts')).map(({ key }) => key)).toEqual([...keys].sort())
  expect(({} as Record<string, unknown>).count).toBeUndefined()
  await driver.close()
})

test('a partition with unread records is not idle, however long the log withholds them', async () => {
  const settings = { idleAfterMs: 1000 }
  const driver = await TopologyTestDriver.open(counts('close'), { partitions: 2, settings })
  const { log } = driver
  const fetch = log.fetch.bind(log)
  let paused = true
  log.fetch = async (requests, options) =>
    (await fetch(requests, options)).map((response, i) => {
      if (!paused || response.partition !== 0) return response
      return { ...response, bytes: Buffer.alloc(0), nextOffset: requests[i]!.offset }
    })
  await driver.append('events', [event(90_000, 1)])
  await driver.append(
    'events',
    Array.from({ length: 50 }, (_, i) => event(i * 100, 0)),
  )
  for (let i = 0; i < 10; i++) {
    await driver.engine.step()
    driver.tick(2000)
  }
  paused = false
  await driver.process()
  await driver.advanceWallClock(2000)
  expect(await dead(driver)).toEqual([])
  const rows = await driver.rows('counts')
  expect(rows.map(({ count, final }) => `${count} ${final}`)).toEqual([
    ...new Array(5).fill('10 true'),
    '1 false',
  ])
  await driver.close()
})

test('a snapshot is the cut at which it was taken, however late and slowly it is read', async () => {
  const driver = await TopologyTestDriver.open(counts())
  const events = (timeMs: number) =>
    Array.from({ length: 700 }, (_, i) => event(timeMs, 0, `k${i}`))
  await driver.pipe('events', ...events(1))
  const { snapshot, close } = driver.views.subscribe('counts', () => {})
  await driver.pipe('events', ...events(2))
  let rows = 0
  for await (const chunk of snapshot) {
    rows += chunk.length
    for (const { count } of chunk) expect(count).toBe(1)
    await driver.pipe('events', ...events(3))
  }
  expect(rows).toBe(700)
  close()
  await driver.close()
  expect(driver.database.openHandles).toBe(0)
})

test('a subscriber gets each change once, after its snapshot, and windows again when final', async () => {
  const driver = await TopologyTestDriver.open(counts(), { startMs: 10 * DAY })
  await driver.pipe('events', event(1))
  const seen: string[] = []
  const { close } = driver.views.subscribe('counts', ({ changes }) => {
    for (const { op, row } of changes)
      seen.push(`${op} ${row.windowStart}=${row.count} ${row.final}`)
  })
  await driver.pipe('events', event(2))
  await driver.pipe('events', event(1000))
  await driver.pipe('events', event(2 * DAY))
  close()
  await driver.pipe('events', event(3 * DAY))
  expect(seen).toEqual([
    'upsert 0=2 false',
    'upsert 1000=1 false',
    'upsert 0=2 true',
    `upsert ${2 * DAY}=1 false`,
    'delete 0=undefined undefined',
    'delete 1000=undefined undefined',
  ])
  await driver.close()
})

test('state that other windows wrote is refused, naming the store and what to do', async () => {
  const first = await TopologyTestDriver.open(counts())
  await first.pipe('events', event(1))
  await first.close()
  const wider = new Topology('counts')
  wider
    .stream('events', { key: textKey(), value: json<number>() })
    .groupBy((_, key) => key, { name: 'by-key', key: textKey() })
    .windowedBy(tumbling(2000, { graceMs: 0 }))
    .count({ name: 'counts' })
  const { database } = first
  await expect(TopologyTestDriver.open(wider, { database })).rejects.toThrow(
    /counts\.counts: its codec was window-aggregate text 1000 by 1000 and is now .* 2000 by 2000/,
  )
  const same = await TopologyTestDriver.open(counts(), { database, startMs: 0 })
  expect(await same.rows('counts')).toMatchObject([{ count: 1 }])
  await same.close()
})

test('a stop does not wait for the pause before the next try', async () => {
  let paused = 0
  const inner = new MemoryDatabase()
  let armed = false
  const database = failing(inner, () => armed)
  const environment = {
    clock: () => 5_000_000,
    // Long polls of the log end; pauses before a try (100 ms at first) never do.
    schedule(task: () => void, delayMs: number) {
      if (delayMs === 100) paused++
      const timer = delayMs === 100 ? undefined : setTimeout(task, 5)
      return () => clearTimeout(timer)
    },
    randomBytes: (size: number) => Buffer.alloc(size, 1),
    yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
  }
  const log = await openEmbeddedLog(database, environment)
  const settings = { createPartitions: 1 }
  const engine = await Engine.open({ topology: counts(), log, database, environment, settings })
  const builder = new RecordBatchBuilder()
  const slice = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })
  builder.append(1, slice('k'), slice('1'))
  const transaction = log.begin()
  transaction.append({ topic: 'events', partition: 0 }, builder.finish())
  await transaction.commit()
  armed = true
  const running = engine.run()
  await expect.poll(() => engine.state).toBe('restoring')
  expect(paused).toBeGreaterThan(0)
  await engine.stop()
  await running
  expect(engine.state).toBe('stopped')
})

test('a bug of ours is no letter of the record that met it: the application stops', async () => {
  const topology = new Topology('meets')
  const options = { key: textKey(), value: text() }
  topology
    .stream('events', options)
    .mapValues(value => {
      if (value === 'strange') assert(false, 'no record is strange')
      return value
    })
    .to('out', options)
  const database = new MemoryDatabase()
  const log = await openEmbeddedLog(database, environment)
  const settings = { createPartitions: 1 }
  const errors: unknown[] = []
  const onError = (error: unknown) => errors.push(error)
  const opened = { topology, log, database, environment, settings, onError }
  const engine = await Engine.open(opened)
  const builder = new RecordBatchBuilder()
  const slice = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })
  builder.append(1, slice('k'), slice('strange'))
  const transaction = log.begin()
  transaction.append({ topic: 'events', partition: 0 }, builder.finish())
  await transaction.commit()
  await expect(engine.run()).rejects.toThrow('Assertion failed: no record is strange')
  expect([engine.state, errors.length]).toEqual(['failed', 1])
  const [letters] = await log.offsets([{ topic: 'meets-dead-letters', partition: 0 }])
  expect(letters).toMatchObject({ endOffset: 0 })
})
