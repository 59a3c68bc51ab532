/** Dead letters listed, replayed and discarded, over the real engine and the embedded log. */
import { describe, expect, test } from 'vitest'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import type { Header } from '../../log/record-headers.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import {
  type ActRequest,
  DeadLetterAdmin,
  type LetterFilter,
  type LetterOutcome,
} from '../../streams/dead-letter-admin.ts'
import { deadLetterMarksTopic, decodeMark, encodeMark } from '../../streams/dead-letter-marks.ts'
import type { DeadLetter } from '../../streams/dead-letter-record.ts'
import { json, Topology, text, textKey, tumbling } from '../../streams/index.ts'
import { replayRefusal } from '../../streams/replay-steps.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

const LINES = { key: textKey(), value: text() }
const DAY = 24 * 60 * 60 * 1000
const replay: ActRequest = { action: 'replay', by: 'ann', dryRun: false }
const discard: ActRequest = { action: 'discard', by: null, dryRun: false }

interface Code {
  /** Values that this version of the code cannot deal with. */
  readonly broken: (value: string) => boolean
}
const fixed: Code = { broken: () => false }
const buggy: Code = { broken: value => value.startsWith('bad') }

/** Two views of one stream behind a deduplication; only one of them has the bug. */
function shop({ broken }: Code): Topology {
  const topology = new Topology('shop')
  const events = topology
    .stream('in', LINES)
    .deduplicate({ name: 'unique', id: { header: 'ce_id' }, ttlMs: DAY })
  events
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(1000, { graceMs: DAY }))
    .count({ name: 'counts', retentionMs: DAY })
    .toStream()
    .map((count, { key }) => [key, String(count)])
    .to('counts', LINES)
  events
    .filter(
      value => {
        if (broken(value)) throw new TypeError(`cannot deal with ${value}`)
        return true
      },
      { name: 'checked' },
    )
    .groupBy(() => 'all', { name: 'by-nothing', key: textKey() })
    .stream.to('checked', LINES)
  return topology
}

interface Running {
  readonly driver: TopologyTestDriver
  readonly admin: DeadLetterAdmin
}

async function start(topology: Topology, database = new MemoryDatabase()): Promise<Running> {
  const driver = await TopologyTestDriver.open(topology, { database, partitions: 2 })
  return { driver, admin: adminOf(driver, topology) }
}

function adminOf(
  { log, application }: Pick<TopologyTestDriver, 'application'> & { readonly log: EventLog },
  topology: Topology,
): DeadLetterAdmin {
  const refusal = (letter: DeadLetter) => replayRefusal(topology, letter)
  return new DeadLetterAdmin({ application, log, clock: () => 777, refusal })
}

const event = (key: string, value: string, id: string, timeMs = 5) => ({
  key,
  value,
  timeMs,
  headers: { ce_id: id, other: '\u00ff' },
})

async function listed(admin: DeadLetterAdmin, filter: LetterFilter = { state: 'open' }) {
  const page = await admin.list({ filter, limit: 1000 }, ({ offset, letter, state }) => {
    return `${offset} ${state} ${letter.reason} ${letter.step} ${letter.value}`
  })
  return page.letters
}

const told = (outcomes: readonly LetterOutcome[]) =>
  outcomes.map(each =>
    'error' in each ? `${each.offset} ${each.error.code}` : `${each.offset} ${each.changed}`,
  )

/** Last counts by key, and what was checked, as `key=value`. */
async function results({ driver }: Running) {
  const counts = new Map<string | null, string | null>()
  for (const { key, value } of await driver.output('counts', LINES)) counts.set(key, value)
  const checked = await driver.output('checked', LINES)
  return {
    counts: Object.fromEntries([...counts].sort()),
    checked: checked.map(({ value, headers }) => `${value} ${Object.keys(headers)}`).sort(),
  }
}

test('a replay after the fix gives what a clean run gives, in the step that failed alone', async () => {
  const events = [
    event('a', 'good 1', 'e1'),
    event('a', 'bad 2', 'e2'),
    event('b', 'bad 3', 'e3'),
    event('b', 'good 4', 'e4'),
  ]
  const clean = await start(shop(fixed))
  await clean.driver.pipe('in', ...events)
  const wanted = await results(clean)
  await clean.driver.close()
  const database = new MemoryDatabase()
  const before = await start(shop(buggy), database)
  await before.driver.pipe('in', ...events)
  await before.driver.close()
  const after = await start(shop(fixed), database)
  expect((await listed(after.admin)).map(line => line.slice(2)).sort()).toEqual([
    'open poison checked bad 2',
    'open poison checked bad 3',
  ])
  const outcome = await after.admin.actAll(replay, { filter: { state: 'open' }, limit: 100 })
  expect(told(outcome.letters)).toEqual(['0 true', '1 true'])
  await after.driver.process()
  expect(await results(after)).toEqual(wanted)
  expect(await listed(after.admin)).toEqual([])
  await after.driver.close()
})

test('what fails again is a new letter, and can be replayed again', async () => {
  const { driver, admin } = await start(shop(buggy))
  await driver.pipe('in', event('a', 'bad', 'e1'))
  expect(told([await admin.act(replay, 0)])).toEqual(['0 true'])
  await driver.process()
  expect(await listed(admin)).toEqual(['1 open poison checked bad'])
  expect(told([await admin.act(replay, 1)])).toEqual(['1 true'])
  await driver.process()
  expect(await listed(admin, {})).toEqual([
    '2 open poison checked bad',
    '1 replayed poison checked bad',
    '0 replayed poison checked bad',
  ])
  // Bytes, key, headers and time are those of the first record.
  const sent = await driver.output('in', LINES)
  const { dl_replay, dl_replayed, ...own } = sent[2]!.headers
  expect({ ...sent[2], headers: own }).toEqual(sent[0])
  expect(dl_replay).toMatch(/^1 shop 1 checked/)
  expect(dl_replayed).toMatch(/^0 \S+\/0$/)
  await driver.close()
})

test('a letter is replayed once, by however many at the same time', async () => {
  const topology = shop(buggy)
  const { driver, admin } = await start(topology)
  await driver.pipe('in', event('a', 'bad', 'e1'))
  const others = Array.from({ length: 8 }, () => adminOf(driver, topology))
  const asked = [admin, admin, ...others].map(each => each.act(replay, 0))
  const outcomes = await Promise.allSettled(asked)
  const done = outcomes.filter(each => each.status === 'fulfilled').map(({ value }) => value)
  expect(told(done).filter(line => line === '0 true')).toEqual(['0 true'])
  for (const each of outcomes) {
    if (each.status === 'rejected') expect(each.reason.code).toBe('LETTERS_BUSY')
  }
  for (const each of [admin, ...others, adminOf(driver, topology)]) {
    expect(told([await each.act(replay, 0)])).toEqual(['0 false'])
  }
  expect(await driver.output('in', LINES)).toHaveLength(2)
  await driver.close()
})

test('a discarded letter is listed only when asked for, and may still be replayed', async () => {
  const { driver, admin } = await start(shop(buggy))
  await driver.pipe('in', event('a', 'bad 1', 'e1'), event('a', 'bad 2', 'e2'))
  expect(told([await admin.act(discard, 0)])).toEqual(['0 true'])
  expect(told([await admin.act(discard, 0)])).toEqual(['0 false'])
  expect(await listed(admin)).toEqual(['1 open poison checked bad 2'])
  expect(await listed(admin, { state: 'discarded' })).toEqual(['0 discarded poison checked bad 1'])
  expect((await admin.get(0))!.mark).toMatchObject({ state: 'discarded', atMs: 777, by: null })
  expect(told([await admin.act(replay, 0)])).toEqual(['0 true'])
  await expect(admin.act(discard, 0)).rejects.toMatchObject({ code: 'LETTER_SETTLED' })
  expect((await admin.get(0))!.mark).toMatchObject({ state: 'replayed', atMs: 777, by: 'ann' })
  await driver.close()
})

test('a dry run says what would be done, and does nothing', async () => {
  const { driver, admin } = await start(shop(buggy))
  await driver.pipe('in', event('a', 'bad 1', 'e1'))
  const dry = { ...replay, dryRun: true }
  const page = await admin.actAll(dry, { filter: {}, limit: 10 })
  expect(told(page.letters)).toEqual(['0 true'])
  expect(await listed(admin)).toHaveLength(1)
  expect(await driver.output('in', LINES)).toHaveLength(1)
  await driver.close()
})

test('filters and pages: reason, topic, step and time, backwards and forwards', async () => {
  const { driver, admin } = await start(shop(buggy))
  for (let i = 0; i < 5; i++) {
    driver.tick(100)
    const value = i === 2 ? 'good' : `bad ${i}`
    await driver.pipe('in', event('a', value, `e${Math.min(i, 3)}`))
  }
  const reasons = async (filter: LetterFilter) =>
    (await listed(admin, filter)).map(line => line.split(' ')[0])
  expect(await reasons({})).toEqual(['3', '2', '1', '0'])
  expect(await reasons({ reason: 'duplicate' })).toEqual(['3'])
  expect(await reasons({ step: 'checked' })).toEqual(['2', '1', '0'])
  expect(await reasons({ topic: 'in', fromMs: 200, toMs: 500 })).toEqual(['2', '1'])
  expect(await reasons({ topic: 'other' })).toEqual([])
  const pages: number[][] = []
  for (let at: number | undefined; ; ) {
    const query = { filter: {}, limit: 3, ...(at !== undefined && { at }) }
    const page = await admin.list(query, ({ offset }) => offset)
    pages.push([...page.letters])
    if (page.next === null) break
    at = page.next
  }
  expect(pages).toEqual([[3, 2, 1], [0]])
  const first = await admin.actAll(discard, { filter: { step: 'checked' }, limit: 2 })
  expect([told(first.letters), first.next]).toEqual([['0 true', '1 true'], 2])
  const rest = await admin.actAll(discard, { filter: {}, limit: 9, at: first.next! })
  expect([told(rest.letters), rest.next]).toEqual([['2 true', '3 true'], null])
  await driver.close()
})

test('a record over 1 MiB is replayed from its place, not when that is gone or another', async () => {
  const value = 'bad '.repeat(300_000)
  const topology = shop(buggy)
  const { driver, admin } = await start(topology)
  await driver.pipe('in', event('a', value, 'e1'))
  expect((await admin.get(0))!.letter).toMatchObject({ value: { bytes: 1_200_000 } })
  expect(told([await admin.act(replay, 0)])).toEqual(['0 true'])
  const [first, again] = await driver.output('in', LINES)
  expect(again!.value).toBe(first!.value)
  await driver.process()
  const partition = first!.partition
  await driver.log.deleteRecords({ topic: 'in', partition }, 2)
  await expect(admin.act(replay, 1)).rejects.toThrow(/no longer at in-/)
  await driver.close()
})

describe('what cannot be replayed says why', () => {
  test('a letter that is not there', async () => {
    const { driver, admin } = await start(shop(buggy))
    expect(await admin.get(0)).toBe(undefined)
    await expect(admin.act(replay, 0)).rejects.toMatchObject({ code: 'LETTER_UNKNOWN' })
    await driver.close()
  })

  test('a step that is gone, or below one that has counted the record', async () => {
    const topology = new Topology('shop')
    topology
      .stream('in', LINES)
      .groupByKey({ name: 'by-key', key: textKey() })
      .count({ name: 'counts' })
      .toStream()
      .filter(
        () => {
          throw new Error('no')
        },
        { name: 'below' },
      )
      .to('out', { key: textKey(), value: json<number>() })
    const { driver, admin } = await start(topology)
    await driver.pipe('in', event('a', 'x', 'e1'))
    await expect(admin.act(replay, 0)).rejects.toThrow(/below gets the results of counts/)
    const other = adminOf(driver, shop(fixed))
    await expect(other.act(replay, 0)).rejects.toThrow(/has no step below any more/)
    await driver.close()
  })

  test('one of several results of a record: the others would be there twice', async () => {
    const topology = new Topology('shop')
    topology
      .stream('in', LINES)
      .flatMap((value, key) => value.split(',').map((part): [string, string] => [key, part]))
      .filter(
        value => {
          if (value === 'bad') throw new TypeError(value)
          return true
        },
        { name: 'checked' },
      )
      .to('checked', LINES)
    const { driver, admin } = await start(topology)
    await driver.pipe('in', event('a', 'good,bad', 'e1'))
    await expect(admin.act(replay, 0)).rejects.toThrow(/checked gets several results of a record/)
    await driver.close()
  })

  test('a row of a table: it would come after newer ones', async () => {
    const value = {
      encode: (line: string) => Buffer.from(line),
      decode(bytes: Buffer, from: number, to: number) {
        const line = bytes.utf8Slice(from, to)
        if (line.startsWith('bad')) throw new TypeError(line)
        return line
      },
    }
    const topology = new Topology('shop')
    const rows = { key: textKey(), value }
    topology
      .table('prices', { name: 'prices', ...rows })
      .toStream()
      .to('out', rows)
    topology.stream('in', rows).to('copies', rows)
    const { driver, admin } = await start(topology)
    await driver.pipe('prices', event('k', 'bad old', 'e1'), event('k', 'new', 'e2'))
    await driver.pipe('in', event('k', 'bad too', 'e3'))
    await expect(admin.act(replay, 0)).rejects.toThrow(/prices may have a newer row by now/)
    expect(await admin.act(replay, 1)).toMatchObject({ changed: true })
    await driver.close()
  })

  test('garbage among the letters and their marks', async () => {
    const { driver, admin } = await start(shop(buggy))
    await driver.pipe('in', event('a', 'bad 1', 'e1'))
    await append(driver, 'shop-dead-letters', 'garbage', [['dl_version', Buffer.from('1')]])
    await append(driver, 'shop-dead-letter-states', '{"v":1,"state":"gone"}')
    await append(driver, 'shop-dead-letter-states', 'no JSON')
    expect(await listed(admin)).toEqual(['1 open null null garbage', '0 open poison checked bad 1'])
    await expect(admin.act(replay, 1)).rejects.toMatchObject({ code: 'LETTER_NOT_REPLAYABLE' })
    // The mark of a letter that a salvage has cut off, and whose offset another one has.
    const other = { state: 'discarded', atMs: 1, by: null, letterAtMs: 5 } as const
    await append(driver, 'shop-dead-letter-states', encodeMark(0, other).value.toString())
    expect((await admin.get(0))!.state).toBe('open')
    const page = await admin.actAll(replay, { filter: { state: 'open' }, limit: 9 })
    expect(told(page.letters)).toEqual(['0 true', '1 LETTER_NOT_REPLAYABLE'])
    expect(told([await admin.act(discard, 1)])).toEqual(['1 true'])
    await driver.close()
  })
})

test('a mark is a number and JSON', () => {
  const mark = { state: 'replayed', atMs: 5, by: 'ann', letterAtMs: 3 } as const
  const { key, value } = encodeMark(17, mark)
  expect([key.toString(), value.toString()]).toEqual([
    '17',
    '{"v":1,"state":"replayed","at":5,"by":"ann","of":3}',
  ])
  const builder = new RecordBatchBuilder()
  const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
  builder.append(1, whole(key), whole(value))
  expect(decodeMark(decodeBatches(builder.finish()).runs[0]!, 0)).toEqual([17, mark])
})

/** A record under the key 0. */
async function append(
  { log }: TopologyTestDriver,
  topic: string,
  value: string,
  headers: Header[] = [],
): Promise<void> {
  const builder = new RecordBatchBuilder()
  const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
  builder.append(1, whole(Buffer.from('0')), whole(Buffer.from(value)), headers)
  const transaction = log.begin()
  transaction.append({ topic, partition: 0 }, builder.finish())
  await transaction.commit()
}

/** The log with some calls answered otherwise. */
function altered(log: EventLog, changes: Partial<EventLog>): EventLog {
  return new Proxy(log, {
    get(target, name) {
      const member = Reflect.get(changes, name) ?? Reflect.get(target, name)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}

const badLine = (id: string, timeMs: number) => {
  return { key: 'a', value: id, timeMs, headers: { ce_id: id }, partition: 0 }
}

test('by half of the marks nothing is replayed', async () => {
  const topology = shop(buggy)
  const { driver, admin: other } = await start(topology)
  await driver.pipe('in', badLine('bad-1', 5))
  await other.act(replay, 0)
  const { log } = driver
  const silent = altered(log, {
    async fetch(requests, options) {
      const answers = await log.fetch(requests, options)
      const { topic, offset } = requests[0]!
      if (topic !== deadLetterMarksTopic('shop')) return answers
      return answers.map(one => ({ ...one, bytes: Buffer.alloc(0), nextOffset: offset }))
    },
  })
  const mine = adminOf({ log: silent, application: 'shop' }, topology)
  await expect(mine.act(replay, 0)).rejects.toMatchObject({ code: 'LETTERS_BUSY' })
  await driver.close()
})

test('a mark that comes while others are read is read the next time: nothing is replayed twice', async () => {
  const topology = shop(buggy)
  const { driver, admin: other } = await start(topology)
  await driver.pipe('in', badLine('bad-1', 5), badLine('bad-2', 6))
  await other.act(replay, 0)
  let isRacing = true
  const { log } = driver
  const racing = altered(log, {
    async offsets(places) {
      const ranges = await log.offsets(places)
      if (isRacing && places[0]!.topic === deadLetterMarksTopic('shop')) {
        isRacing = false
        await other.act(replay, 1)
      }
      return ranges
    },
  })
  const mine = adminOf({ log: racing, application: 'shop' }, topology)
  await mine.list({ filter: {}, limit: 10 }, ({ offset }) => offset)
  expect(isRacing).toBe(false)
  expect(await mine.act(replay, 1)).toMatchObject({ state: 'replayed', changed: false })
  await driver.close()
})
