/**
 * A replayed record counts where it is missing, and nowhere else: not after a reset that reads the
 * failed record again, nor in what was added since, nor in a window that had kept it.
 */
import { Type } from 'typebox'
import { describe, expect, test } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { deadLetterTopic } from '../../streams/assembly.ts'
import { DeadLetterAdmin, type LetterOutcome } from '../../streams/dead-letter-admin.ts'
import { type DeadLetter, encodeLetter } from '../../streams/dead-letter-record.ts'
import { hopping, type Stream, Topology, text, textKey } from '../../streams/index.ts'
import { replayRefusal } from '../../streams/replay-steps.ts'
import { resetApplication } from '../../streams/reset.ts'
import { TopologyTestDriver as Driver } from '../../streams/testing/index.ts'

const LINES = { key: textKey(), value: text() }
const DAY = 24 * 60 * 60 * 1000
const value = { count: Type.Integer() }
const row = (count: number) => ({ count })

interface Code {
  /** What this version of the code throws at. */
  readonly fails: (value: string) => boolean
  /** Views that it has, by name. */
  readonly views: readonly string[]
  /** Where the bug is. */
  readonly at?: 'source' | 'step' | 'behind an exchange'
}

const isBad = (line: string) => line.startsWith('bad')
const never = () => false

/** Lines are checked and counted by each view; in `exchanged` behind a change of the key. */
function shop({ fails, views, at = 'step' }: Code): Topology {
  const checked = (line: string) => {
    if (fails(line)) throw new TypeError(`cannot deal with ${line}`)
    return line
  }
  const topology = new Topology('shop')
  const decode = (bytes: Buffer, start: number, end: number) => {
    const line = bytes.utf8Slice(start, end)
    return at === 'source' ? checked(line) : line
  }
  const lines = topology
    .stream('in', { key: textKey(), value: { encode: text().encode, decode } })
    .deduplicate({ name: 'unique', id: { header: 'ce_id' }, ttlMs: DAY })
  const first = lines.filter(line => at !== 'step' || checked(line) !== '', { name: 'checked' })
  const counted = (stream: Stream<string, string>, name: string) =>
    stream
      .groupBy((_, key) => key, { name: `by-${name}`, key: textKey() })
      .count({ name })
      .view({ name, description: name, value, row })
  for (const name of views) {
    if (name !== 'exchanged') counted(first, name)
    else {
      const moved = first.groupBy(line => line.slice(0, 3), { name: 'by-start', key: textKey() })
      const behind = moved.stream.filter(
        line => at !== 'behind an exchange' || checked(line) !== '',
        { name: 'checked-behind' },
      )
      counted(behind, name)
    }
  }
  return topology
}

const line = (key: string, value: string, id: string) => ({
  key,
  value,
  timeMs: 5,
  headers: { ce_id: id },
})
const lines = [
  line('a', 'good', 'e1'),
  line('a', 'bad 1', 'e2'),
  line('b', 'bad 2', 'e3'),
  line('b', 'good', 'e4'),
  line('a', 'good', 'e5'),
]

interface Running {
  readonly driver: Driver
  readonly admin: DeadLetterAdmin
}

async function start(topology: Topology, database = new MemoryDatabase()): Promise<Running> {
  const driver = await Driver.open(topology, { database, partitions: 2 })
  await driver.process()
  const { application, log } = driver
  const refusal = (letter: DeadLetter) => replayRefusal(topology, letter)
  return { driver, admin: new DeadLetterAdmin({ application, log, clock: () => 777, refusal }) }
}

/** The same state under another version of the code. */
async function deploy({ driver }: Running, topology: Topology): Promise<Running> {
  await driver.close()
  return start(topology, driver.database as MemoryDatabase)
}

async function resetAndDeploy({ driver }: Running, topology: Topology): Promise<Running> {
  await driver.engine.stop()
  const { application, database, log } = driver
  await resetApplication({ application, inputs: ['in'], database, log })
  await log.close()
  return start(topology, database as MemoryDatabase)
}

const open = { filter: { state: 'open' }, limit: 100 } as const
const told = (outcomes: readonly LetterOutcome[]) =>
  outcomes.map(each => ('error' in each ? each.error.message : each.changed))

async function replayAll({ driver, admin }: Running) {
  const { letters } = await admin.actAll({ action: 'replay', by: null, dryRun: false }, open)
  await driver.process()
  return told(letters)
}

async function letters({ admin }: Running) {
  const show = ({ letter }: { letter: { step: string | null; place: unknown } }) => letter.step
  return (await admin.list(open, show)).letters
}

async function counts({ driver }: Running, views: readonly string[]) {
  const found: Record<string, unknown> = {}
  for (const view of views) {
    const rows = (await driver.rows(view)) as unknown as { key: string; count: number }[]
    found[view] = Object.fromEntries(rows.map(({ key, count }) => [key, count]).sort())
  }
  return found
}

/** What a run with the mended code has. */
async function clean(views: readonly string[]) {
  const running = await start(shop({ fails: never, views }))
  await running.driver.pipe('in', ...lines)
  const wanted = await counts(running, views)
  await running.driver.close()
  return wanted
}

describe.each([
  ['the source', 'source', ['lines', 'other'], 'in'],
  ['a step', 'step', ['lines', 'other'], 'checked'],
  ['a step behind an exchange', 'behind an exchange', ['exchanged', 'lines'], 'checked-behind'],
] as const)('a letter of %s', (_, at, views, step) => {
  const [first] = views
  const buggy = (...of: string[]) => shop({ fails: isBad, views: of, at })
  const mended = (...of: string[]) => shop({ fails: never, views: of, at })

  async function failed() {
    const running = await start(buggy(first))
    await running.driver.pipe('in', ...lines)
    expect(await letters(running)).toEqual([step, step])
    return running
  }

  test('counts once after the step is mended, and nothing is left open', async () => {
    const running = await deploy(await failed(), mended(first))
    expect(await replayAll(running)).toEqual([true, true])
    expect(await counts(running, [first])).toEqual(await clean([first]))
    expect(await letters(running)).toEqual([])
    await running.driver.close()
  })

  test('counts once after a reset that reads the failed record and the replayed one', async () => {
    let running = await deploy(await failed(), mended(first))
    await replayAll(running)
    running = await resetAndDeploy(running, mended(first))
    expect(await counts(running, [first])).toEqual(await clean([first]))
    expect(await letters(running)).toEqual([])
    await running.driver.close()
  })

  test('a reset before it is mended puts it aside anew, and it counts once then', async () => {
    let running = await deploy(await failed(), mended(first))
    await replayAll(running)
    running = await resetAndDeploy(running, buggy(first))
    running = await deploy(running, mended(first))
    await replayAll(running)
    expect(await counts(running, [first])).toEqual(await clean([first]))
    await running.driver.close()
  })

  test('a view that is added when it is mended has it once, replayed before or after', async () => {
    for (const isBefore of [true, false]) {
      let running = await deploy(await failed(), isBefore ? mended(first) : mended(...views))
      await replayAll(running)
      if (isBefore) running = await deploy(running, mended(...views))
      expect(await counts(running, views)).toEqual(await clean(views))
      await running.driver.close()
    }
  })

  test('a view that is added before it is mended gets it with the replay', async () => {
    let running = await deploy(await failed(), buggy(...views))
    running = await deploy(running, mended(...views))
    await replayAll(running)
    expect(await counts(running, views)).toEqual(await clean(views))
    expect(await letters(running)).toEqual([])
    await running.driver.close()
  })

  test('fails again at its first place, and counts once however often it was replayed', async () => {
    let running = await failed()
    expect(await replayAll(running)).toEqual([true, true])
    expect(await replayAll(running)).toEqual([true, true])
    running = await deploy(running, mended(first))
    const places = await running.admin.list(open, ({ letter }) => letter.place?.offset)
    expect(places.letters.toSorted()).toEqual([1, 2])
    await replayAll(running)
    expect(await counts(running, [first])).toEqual(await clean([first]))
    await running.driver.close()
  })
})

test('a letter of an older release, which noted nothing, counts when it is replayed', async () => {
  const mended = shop({ fails: never, views: ['lines'] })
  let running = await start(mended)
  await running.driver.pipe('in', line('a', 'good', 'e1'))
  const whole = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })
  const ofLetter = encodeLetter({
    ...{
      application: 'shop',
      step: 'checked',
      kind: null,
      branch: null,
      reason: 'poison',
      code: null,
      detail: '',
    },
    ...{ stack: null, attempts: 1, atMs: 1, content: 'record', taken: null, timestampMs: 5 },
    place: { topic: 'in', partition: 0, offset: 70 },
    key: Buffer.from('a'),
    value: Buffer.from('bad'),
    headers: [['ce_id', Buffer.from('e2')]],
  })
  const builder = new RecordBatchBuilder()
  builder.append(5, whole('a'), whole('bad'), ofLetter.headers)
  await running.driver.appendRaw(deadLetterTopic('shop'), 0, builder.finish())
  expect(await replayAll(running)).toEqual([true])
  expect(await counts(running, ['lines'])).toEqual({ lines: { a: 2 } })
  running = await deploy(running, mended)
  expect(await counts(running, ['lines'])).toEqual({ lines: { a: 2 } })
  await running.driver.close()
})

describe('what a step has kept in part', () => {
  const partly = /has kept the record in part, or another letter of it/
  const windows = hopping(10, { advanceMs: 5, graceMs: 0 })

  /** Counts, but for what the function throws at. */
  function windowed(refuses: (count: number, line: string) => boolean): Topology {
    const topology = new Topology('shop')
    topology
      .stream('in', LINES)
      .groupByKey({ name: 'by-key', key: textKey() })
      .windowedBy(windows)
      .aggregate({
        name: 'counts',
        initial: () => ({ count: 0 }),
        add: ({ count }, line) => {
          if (refuses(count, line)) throw new TypeError('no more')
          return { count: count + 1 }
        },
        retentionMs: DAY,
      })
      .view({ name: 'counts', description: 'Counts', value, row: found => found })
    return topology
  }

  const at = (timeMs: number, value = 'x') => ({ key: 'k', value, timeMs })

  test('a window that is open beside one that is closed', async () => {
    const running = await start(windowed(never))
    await running.driver.pipe('in', at(21), at(11), at(2))
    expect((await counts(running, ['counts'])).counts).toBeDefined()
    const reasons = await running.admin.list(open, ({ letter }) => letter.taken)
    // 11 is in [5, 15) and [10, 20), 2 in [0, 10) alone: all are closed.
    expect(reasons.letters).toEqual(['nothing', 'part', 'nothing'])
    await running.driver.pipe('in', at(24), at(19))
    const [last] = (await running.admin.list(open, ({ letter }) => letter.taken)).letters
    expect(last).toBe('part')
    const refused = expect.stringMatching(partly)
    expect(await replayAll(running)).toEqual([true, refused, true, refused])
    await running.driver.close()
  })

  test('a window that takes it beside one that throws; both throw: it can be replayed', async () => {
    const running = await start(windowed((count, line) => line === 'bad' || count === 2))
    // [0, 10) is full at the third, [5, 15) has room; then nobody takes the bad one.
    await running.driver.pipe('in', at(1), at(6), at(7), at(8, 'bad'))
    const shown = await running.admin.list(open, ({ letter }) => letter.taken)
    expect(shown.letters).toEqual(['part', 'nothing', 'part'])
    const before = await running.driver.rows('counts')
    const mended = await deploy(running, windowed(never))
    const refused = expect.stringMatching(partly)
    expect(await replayAll(mended)).toEqual([refused, true, refused])
    const after = await mended.driver.rows('counts')
    const sum = (rows: unknown) =>
      (rows as { count: number }[]).reduce((total, { count }) => total + count, 0)
    // Two letters of one record, in two windows, each of which counts it once.
    expect(sum(after) - sum(before)).toBe(2)
    await mended.driver.close()
  })

  test('a join whose function throws for one of its pairs', async () => {
    const topology = new Topology('shop')
    const within = { name: 'pairs', beforeMs: 10, afterMs: 10, graceMs: 0 }
    const joiner = (a: string, b: string) => {
      if (b === 'bad') throw new TypeError('no')
      return a + b
    }
    topology
      .stream('in', LINES)
      .join(topology.stream('other', LINES), joiner, within)
      .to('out', LINES)
    const running = await start(topology)
    await running.driver.pipe('in', at(1, 'a'), at(2, 'b'))
    await running.driver.pipe('other', at(3, 'good'), at(4, 'bad'))
    expect(await replayAll(running)).toEqual([
      expect.stringMatching(partly),
      expect.stringMatching(partly),
    ])
    await running.driver.close()
  })
})
