/** Ways by which a replayed record comes to its step that are not those by which it came first. */
import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { DeadLetterAdmin } from '../../streams/dead-letter-admin.ts'
import type { DeadLetter } from '../../streams/dead-letter-record.ts'
import { json, Topology, text, textKey, type ValueSerde } from '../../streams/index.ts'
import { replayRefusal } from '../../streams/replay-steps.ts'
import { resetApplication } from '../../streams/reset.ts'
import { TopologyTestDriver as Driver } from '../../streams/testing/index.ts'

const LINES = { key: textKey(), value: text() }
const value = { count: Type.Integer() }
const row = (count: number) => ({ count })
const view = (name: string) => ({ name, description: name, value, row })
const line = (key: string, value: string, timeMs = 5) => ({ key, value, timeMs })
const open = { filter: { state: 'open' }, limit: 100 } as const

interface Running {
  readonly driver: Driver
  readonly admin: DeadLetterAdmin
}

const drivers = new Set<Driver>()
afterEach(async () => {
  for (const driver of drivers) await driver.close()
  drivers.clear()
})

async function start(topology: Topology, database = new MemoryDatabase(), settings = {}) {
  const driver = await Driver.open(topology, { database, partitions: 2, settings })
  drivers.add(driver)
  await driver.process()
  const { application, log } = driver
  const refusal = (letter: DeadLetter) => replayRefusal(topology, letter)
  return { driver, admin: new DeadLetterAdmin({ application, log, clock: () => 777, refusal }) }
}

async function deploy({ driver }: Running, topology: Topology, settings = {}) {
  await driver.close()
  drivers.delete(driver)
  return start(topology, driver.database as MemoryDatabase, settings)
}

async function replayAll({ driver, admin }: Running) {
  const { letters } = await admin.actAll({ action: 'replay', by: null, dryRun: false }, open)
  await driver.process()
  return letters.map(each => ('error' in each ? each.error.message : each.changed))
}

async function counts({ driver }: Running, name: string) {
  const rows = (await driver.rows(name)) as unknown as { key: string; count: number }[]
  return Object.fromEntries(rows.map(({ key, count }) => [key, count]).sort())
}

const out = async ({ driver }: Running) =>
  (await driver.output('out', LINES)).map(({ value }) => value).sort()

function throwing(isMended: boolean, fails: (line: string) => boolean) {
  return (line: string) => {
    if (!isMended && fails(line)) throw new TypeError('no')
    return true
  }
}
const isBad = (line: string) => line.startsWith('bad')

test.each([
  [
    'a key that was null and is not any more',
    (isMended: boolean) => (line: string) => (isBad(line) && !isMended ? null : line),
    () => {},
  ],
  [
    'a key that is another one now',
    (isMended: boolean) => (line: string) => (isMended ? line.toLowerCase() : line),
    (key: string) => {
      if (key !== key.toLowerCase()) throw new TypeError('case')
    },
  ],
])('%s: the record counts in the task that it comes to', async (_, keyOf, check) => {
  const build = (isMended: boolean) => {
    const topology = new Topology('shop')
    topology
      .stream('in', LINES)
      .groupBy(line => keyOf(isMended)(line) as string, { name: 'by', key: textKey() })
      .aggregate({
        name: 'counts',
        initial: () => 0,
        add: (count: number, _line, key) => {
          check(key)
          return count + 1
        },
      })
      .view(view('counts'))
    return topology
  }
  const lines = ['good', 'bad1', 'bad2', 'bad3', 'A', 'B', 'C', 'D']
  let running = await start(build(false))
  await running.driver.pipe('in', ...lines.map(text => line('k', text)))
  running = await deploy(running, build(true))
  await replayAll(running)
  const wanted = await start(build(true))
  await wanted.driver.pipe('in', ...lines.map(text => line('k', text)))
  expect(await counts(running, 'counts')).toEqual(await counts(wanted, 'counts'))
})

test('a step that stands behind an exchange now', async () => {
  const build = (isMended: boolean) => {
    const topology = new Topology('shop')
    const lines = topology.stream('in', LINES)
    const moved = lines.groupBy(line => line.slice(-1), { name: 'moved', key: textKey() }).stream
    const source = isMended ? moved : lines
    source.filter(throwing(isMended, isBad), { name: 'checked' }).to('out', LINES)
    return topology
  }
  let running = await start(build(false))
  await running.driver.pipe('in', line('a', 'bad1'), line('b', 'bad2'))
  running = await deploy(running, build(true))
  expect(await replayAll(running)).toEqual([true, true])
  expect(await out(running)).toEqual(['bad1', 'bad2'])
})

test('a sub-topology that has another source now, and so another name', async () => {
  const build = (isMended: boolean) => {
    const topology = new Topology('shop')
    const lines = topology
      .stream('in', LINES)
      .filter(throwing(isMended, isBad), { name: 'checked' })
    const all = isMended ? lines.merge(topology.stream('more', LINES)) : lines
    all.to('out', LINES)
    return topology
  }
  let running = await start(build(false))
  await running.driver.pipe('in', line('a', 'bad'))
  running = await deploy(running, build(true))
  expect(await replayAll(running)).toEqual([true])
  expect(await out(running)).toEqual(['bad'])
})

test('two ways to one step: the record may have come by the other', async () => {
  const topology = new Topology('shop')
  const lines = topology.stream('in', LINES)
  const two = lines.mapValues(line => `two ${line}`)
  const fails = (line: string) => line === 'two bad'
  lines
    .mapValues(line => `one ${line}`)
    .merge(two)
    .filter(throwing(false, fails), { name: 'checked' })
    .to('out', LINES)
  const running = await start(topology)
  await running.driver.pipe('in', line('a', 'bad'))
  const refused = /checked gets the records of in in more than one way, and may have had it/
  expect(await replayAll(running)).toEqual([expect.stringMatching(refused)])
  expect(await out(running)).toEqual(['one bad'])
})

test('two steps of one name: the other may have had it', async () => {
  const topology = new Topology('shop')
  const lines = topology.stream('in', LINES)
  lines.filter(() => true, { name: 'valid' }).to('first', LINES)
  lines.filter(throwing(false, isBad), { name: 'valid' }).to('out', LINES)
  const running = await start(topology)
  await running.driver.pipe('in', line('a', 'bad'))
  const refused = /several steps are named valid, and others may have had it/
  expect(await replayAll(running)).toEqual([expect.stringMatching(refused)])
})

test.each(['source', 'operator', 'sink'])(
  'a source, an operator and a sink of one name: a letter of the %s is for that alone',
  async kind => {
    const world = { failing: kind }
    const fails = (at: string) => (line: string) => throwing(world.failing !== at, isBad)(line)
    const checked = (at: string): ValueSerde<string> => ({
      encode: line => (fails(at)(line) ? Buffer.from(line) : Buffer.alloc(0)),
      decode: (bytes, start, end) => {
        const line = bytes.utf8Slice(start, end)
        fails(at)(line)
        return line
      },
    })
    const topology = new Topology('shop')
    const lines = topology.stream('in', { key: textKey(), value: checked('source') })
    lines.groupByKey({ name: 'by-key', key: textKey() }).count({ name: 'had' }).view(view('had'))
    const passed = lines.filter(fails('operator'), { name: 'in' })
    passed.to('out', LINES)
    passed
      .filter(line => line === 'bad')
      .mapValues(line => (world.failing === 'sink' ? line : 'done'))
      .to('in', { key: textKey(), value: checked('sink') })
    const running = await start(topology)
    const builder = new RecordBatchBuilder()
    const whole = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })
    builder.append(5, whole('a'), whole('bad'))
    await running.driver.appendRaw('in', 0, builder.finish())
    await running.driver.process()
    const shown = await running.admin.list(open, ({ letter }) => `${letter.step} ${letter.kind}`)
    expect(shown.letters).toEqual([`in ${kind === 'operator' ? null : kind}`])
    world.failing = ''
    expect(await replayAll(running)).toEqual([true])
    // The record, and what the sink wrote to the source.
    expect([await counts(running, 'had'), await out(running)]).toEqual([{ a: 2 }, ['bad', 'done']])
  },
)

test('two ways that are outputs of one step: a record takes one of them', async () => {
  const world = { fails: true }
  const topology = new Topology('shop')
  const checked = topology.stream('in', LINES).filter(throwing(false, isBad), { name: 'valid' })
  checked
    .merge(checked.side('poison'))
    .filter(line => throwing(!world.fails, text => text === 'x')(line), { name: 'checked' })
    .to('out', LINES)
  const running = await start(topology)
  await running.driver.pipe('in', line('a', 'bad'), line('a', 'x'))
  world.fails = false
  expect(await replayAll(running)).toEqual([true])
  expect(await out(running)).toEqual(['bad', 'x'])
})

test('a letter of a step behind a `map` is replayed: it makes one result of a record', async () => {
  const world = { isMended: false }
  const topology = new Topology('shop')
  topology
    .stream('in', LINES)
    .map((line, key) => [`${key}!`, line])
    .filter(line => throwing(world.isMended, isBad)(line), { name: 'checked' })
    .to('out', LINES)
  const running = await start(topology)
  await running.driver.pipe('in', line('a', 'bad'), line('a', 'x'))
  world.isMended = true
  expect(await replayAll(running)).toEqual([true])
  expect(await out(running)).toEqual(['bad', 'x'])
})

test('a replayed record that a side output takes on its way comes out there', async () => {
  const world = { failing: 'the step' }
  const fails = (at: string) => (line: string) => throwing(world.failing !== at, isBad)(line)
  const topology = new Topology('shop')
  const first = topology.stream('in', LINES).filter(fails('on its way'), { name: 'first' })
  first.side('poison').to('sides', LINES)
  first.filter(fails('the step'), { name: 'checked' }).to('out', LINES)
  const running = await start(topology)
  await running.driver.pipe('in', line('a', 'bad'))
  world.failing = 'on its way'
  expect(await replayAll(running)).toEqual([true])
  const sides = await running.driver.output('sides', LINES)
  expect([sides.map(({ value }) => value), await out(running)]).toEqual([['bad'], []])
})

test.each(['alone', 'before a deduplication'])(
  'a side output that is merged again %s: the record is still on its way',
  async where => {
    const world = { failing: 'checked' }
    const fails = (at: string) => (line: string) => throwing(world.failing !== at, isBad)(line)
    const topology = new Topology('shop')
    const first = topology.stream('in', LINES).filter(fails('first'), { name: 'first' })
    const merged = first.merge(first.side('poison'))
    const once = { name: 'once', id: (line: string) => line, ttlMs: 1000 }
    const all = where === 'alone' ? merged : merged.deduplicate(once)
    all.groupByKey({ name: 'by-had', key: textKey() }).count({ name: 'had' }).view(view('had'))
    all.filter(fails('checked'), { name: 'checked' }).to('out', LINES)
    const running = await start(topology)
    await running.driver.pipe('in', line('a', 'bad'))
    world.failing = 'first'
    expect(await replayAll(running)).toEqual([true])
    expect([await counts(running, 'had'), await out(running)]).toEqual([{ a: 1 }, ['bad']])
  },
)

/** Steps `checked` and, for views but the first, `second`, below `first`. */
function viewed(broken: ReadonlySet<string>, names: readonly string[], hasSecond = false) {
  const fails = (at: string) => (line: string) => throwing(!broken.has(at), isBad)(line)
  const topology = new Topology('shop')
  const checked = topology
    .stream('in', LINES)
    .filter(fails('first'), { name: 'first' })
    .filter(fails('checked'), { name: 'checked' })
  const second = hasSecond ? checked.filter(fails('second'), { name: 'second' }) : checked
  for (const name of names) {
    const stream = name === 'one' ? checked : second
    stream
      .groupByKey({ name: `by-${name}`, key: textKey() })
      .count({ name })
      .view(view(name))
  }
  return topology
}

test('a replayed record fails on its way where an added view has had it', async () => {
  const broken = new Set(['checked'])
  let running = await start(viewed(broken, ['one']))
  await running.driver.pipe('in', line('a', 'bad'), line('a', 'good'))
  broken.clear()
  running = await deploy(running, viewed(broken, ['one', 'two']))
  broken.add('first')
  expect(await replayAll(running)).toEqual([true])
  broken.clear()
  expect(await replayAll(running)).toEqual([true])
  expect([await counts(running, 'one'), await counts(running, 'two')]).toEqual([{ a: 2 }, { a: 2 }])
})

test('a replayed record that stands for itself, put aside again, is known in later branches', async () => {
  const broken = new Set(['checked'])
  let running = await start(viewed(broken, ['one']))
  await running.driver.pipe('in', line('a', 'bad'))
  await running.driver.pipe('in', line('a', 'good'))
  const [place] = (await running.admin.list(open, ({ letter }) => letter.place!)).letters
  broken.clear()
  expect(await replayAll(running)).toEqual([true])
  await running.driver.log.deleteRecords(place!, 1)
  broken.add('second')
  running = await deploy(running, viewed(broken, ['one', 'two'], true))
  running = await deploy(running, viewed(broken, ['one', 'two', 'three'], true))
  broken.clear()
  expect(await replayAll(running)).toEqual([true])
  for (const name of ['one', 'two', 'three']) expect(await counts(running, name)).toEqual({ a: 2 })
})

test('what an older release replayed for a source is for all below, whatever has its name', async () => {
  const topology = new Topology('shop')
  const lines = topology.stream('in', LINES)
  lines.groupByKey({ name: 'by-key', key: textKey() }).count({ name: 'had' }).view(view('had'))
  lines.filter(() => true, { name: 'in' }).to('out', LINES)
  const running = await start(topology)
  const builder = new RecordBatchBuilder()
  const whole = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })
  const replayed = Buffer.from('1 shop 0 in\xff', 'latin1')
  builder.append(5, whole('a'), whole('bad'), [['dl_replay', replayed]])
  await running.driver.appendRaw('in', 0, builder.finish())
  await running.driver.process()
  expect([await counts(running, 'had'), await out(running)]).toEqual([{ a: 1 }, ['bad']])
})

test('letters of a step whose exchange or sink has its name can be replayed, old ones too', () => {
  const topology = new Topology('shop')
  topology
    .stream('in', LINES)
    .groupBy(line => line, { name: 'counts', key: textKey() })
    .count({ name: 'counts' })
  topology
    .stream('more', LINES)
    .filter(() => true, { name: 'out' })
    .to('out', LINES)
  const old = { kind: null, taken: null }
  const refusal = (step: string, topic: string) =>
    replayRefusal(topology, { step, place: { topic }, ...old })
  expect([refusal('counts', 'in'), refusal('out', 'more')]).toEqual([undefined, undefined])
})

test('a copy of a step in another branch, where a side output takes what letters keep, too', async () => {
  const settings = { deadLetters: ['poison'] }
  const build = (isMended: boolean, views: readonly string[]) => {
    const topology = new Topology('shop')
    const lines = topology.stream('in', LINES)
    const checked = lines.filter(throwing(isMended, isBad), { name: 'checked' })
    const counted = (stream: typeof checked, name: string) =>
      stream
        .groupByKey({ name: `by-${name}`, key: textKey() })
        .count({ name })
        .view(view(name))
    for (const name of views) {
      counted(checked, name)
      counted(checked.side('poison'), `${name}-bad`)
    }
    return topology
  }
  let running = await start(build(false, ['one']), undefined, settings)
  await running.driver.pipe('in', line('a', 'good'), line('a', 'bad'))
  running = await deploy(running, build(false, ['one', 'two']), settings)
  running = await deploy(running, build(true, ['one', 'two']), settings)
  expect(await replayAll(running)).toEqual([true])
  expect(await counts(running, 'one')).toEqual({ a: 2 })
  expect(await counts(running, 'two')).toEqual({ a: 2 })
})

test.each([
  ['once', 1],
  ['twice, as it failed again', 2],
])(
  'a branch that began behind the record that failed has only the replayed one: %s',
  async (_, times) => {
    const build = (isMended: boolean, views: readonly string[]) => {
      const topology = new Topology('shop')
      const lines = topology.stream('in', LINES)
      const checked = lines.filter(throwing(isMended, isBad), { name: 'checked' })
      for (const name of views) {
        checked
          .groupByKey({ name: `by-${name}`, key: textKey() })
          .count({ name })
          .view(view(name))
      }
      return topology
    }
    let running = await start(build(false, ['one']))
    await running.driver.pipe('in', line('a', 'bad'))
    await running.driver.pipe('in', line('a', 'good'))
    const [place] = (await running.admin.list(open, ({ letter }) => letter.place!)).letters
    if (times === 2) expect(await replayAll(running)).toEqual([true])
    running = await deploy(running, build(true, ['one']))
    await running.driver.log.deleteRecords(place!, 1)
    expect(await replayAll(running)).toEqual([true])
    running = await deploy(running, build(true, ['one', 'two']))
    running = await deploy(running, build(true, ['one', 'two']))
    expect(await counts(running, 'one')).toEqual({ a: 2 })
    expect(await counts(running, 'two')).toEqual({ a: 2 })
  },
)

test('a run after a reset, which began behind the record that failed, has the replayed one', async () => {
  const build = (isMended: boolean) => {
    const topology = new Topology('shop')
    topology
      .stream('in', LINES)
      .filter(throwing(isMended, isBad), { name: 'checked' })
      .groupByKey({ name: 'by-key', key: textKey() })
      .count({ name: 'one' })
      .view(view('one'))
    return topology
  }
  let running = await start(build(false))
  await running.driver.pipe('in', line('a', 'bad'), line('a', 'good'))
  const [place] = (await running.admin.list(open, ({ letter }) => letter.place!)).letters
  running = await deploy(running, build(true))
  expect(await replayAll(running)).toEqual([true])
  await running.driver.log.deleteRecords(place!, 1)
  await running.driver.engine.stop()
  const { log, database } = running.driver
  await resetApplication({ application: 'shop', inputs: ['in'], database, log })
  drivers.delete(running.driver)
  await log.close()
  running = await start(build(true), database as MemoryDatabase)
  expect(await counts(running, 'one')).toEqual({ a: 2 })
})

test.each(['a step on its way', 'the source'])(
  '%s fails at a replayed record: the new letter is for the same step',
  async where => {
    const world = { failing: '' }
    const fail = (at: string, line: string) => {
      if (world.failing === at && isBad(line)) throw new TypeError(`no at ${at}`)
      return line
    }
    const topology = new Topology('shop')
    const decode: ValueSerde<string>['decode'] = (bytes, start, end) =>
      fail('the source', bytes.utf8Slice(start, end))
    const lines = topology
      .stream('in', { key: textKey(), value: { ...text(), decode } })
      .mapValues(line => fail('a step on its way', line))
    lines.groupByKey({ name: 'by-key', key: textKey() }).count({ name: 'had' }).view(view('had'))
    lines.filter(line => fail('the step', line) !== '', { name: 'checked' }).to('out', LINES)
    const running = await start(topology)
    world.failing = 'the step'
    await running.driver.pipe('in', line('a', 'bad'))
    world.failing = where
    await replayAll(running)
    const shown = await running.admin.list(open, ({ letter }) => `${letter.step} ${letter.detail}`)
    expect(shown.letters).toEqual([
      expect.stringMatching(/^checked .*TypeError: no at|^checked no at/),
    ])
    world.failing = ''
    expect(await replayAll(running)).toEqual([true])
    expect([await counts(running, 'had'), await out(running)]).toEqual([{ a: 1 }, ['bad']])
  },
)

test('a copy of a step fails on the way to a step of its branch: there is one letter of it', async () => {
  const world = { failing: '' }
  const fail = (at: string, line: string) => {
    if (world.failing === at && isBad(line)) throw new TypeError(`no at ${at}`)
    return line
  }
  const build = (isAdded: boolean) => {
    const topology = new Topology('shop')
    const lines = topology.stream('in', LINES).mapValues(line => fail('the map', line))
    lines.groupByKey({ name: 'by-one', key: textKey() }).count({ name: 'one' }).view(view('one'))
    if (!isAdded) return topology
    lines
      .filter(line => fail('the step', line) !== '', { name: 'checked' })
      .groupByKey({ name: 'by-two', key: textKey() })
      .count({ name: 'two' })
      .view(view('two'))
    return topology
  }
  let running = await start(build(false))
  await running.driver.pipe('in', line('a', 'bad'))
  world.failing = 'the step'
  running = await deploy(running, build(true))
  const steps = async () => (await running.admin.list(open, ({ letter }) => letter.step)).letters
  expect(await steps()).toEqual(['checked'])
  world.failing = 'the map'
  expect(await replayAll(running)).toEqual([true])
  expect(await steps()).toEqual(['checked'])
  world.failing = ''
  expect(await replayAll(running)).toEqual([true])
  expect([await counts(running, 'one'), await counts(running, 'two')]).toEqual([{ a: 1 }, { a: 1 }])
})

test('what a processor drops after it has said or kept something is kept in part', async () => {
  const stores = { seen: { key: textKey(), codec: json<number>() } } as const
  const topology = new Topology('shop')
  topology
    .stream('in', LINES)
    .process<typeof stores, string, string>({
      name: 'half',
      key: textKey(),
      stores,
      results: LINES,
      create: context => ({
        process: ({ key, value }) => {
          if (value === 'says') context.forward(key, value)
          if (value === 'keeps') context.store('seen').put(key, 1)
          context.drop('late', 'half')
        },
      }),
    })
    .to('out', LINES)
  const running = await start(topology)
  await running.driver.pipe('in', line('a', 'says'), line('a', 'keeps'), line('a', 'drops'))
  const taken = await running.admin.list(open, ({ letter }) => letter.taken)
  expect(taken.letters).toEqual(['nothing', 'part', 'part'])
})
