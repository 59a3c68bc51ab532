/** Where the traces of single records go, kind of step by kind of step. */
import { afterEach, expect, test } from 'vitest'
import {
  json,
  plain,
  RetriableError,
  type Stream,
  sessions,
  sliding,
  Topology,
  text,
  textKey,
  tumbling,
  type ValueSerde,
} from '../../streams/index.ts'
import {
  type TestDriverOptions,
  type TestRecord,
  TopologyTestDriver,
} from '../../streams/testing/index.ts'
import { keptSpans, orphans, storyOf } from '../support/spans.ts'

const ROOT = 'b7ad6b7169203331'
const START_MS = 1_750_000_000_000
const traceId = (n: number) => `${n}`.padStart(32, '0')
const traceparent = (n: number, flags = '01') => `00-${traceId(n)}-${ROOT}-${flags}`

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const serdes = { key: textKey(), value: text() }
const numbers = { key: textKey(), value: json<number>() }

/** A record of a trace; of none unless one is given. */
function record(key: string, value: string, trace?: number | string): TestRecord<string, string> {
  const header = typeof trace === 'number' ? traceparent(trace) : trace
  const headers = { ce_id: `${key}.${value}`, ...(header && { traceparent: header }) }
  return { key, value, timeMs: START_MS, headers }
}

interface StartOptions extends TestDriverOptions {
  readonly limit?: number
  readonly first?: number
}

async function start(topology: Topology, options: StartOptions = {}) {
  const now = { ms: START_MS }
  // Each look at the clock is a little later, so that spans are in order.
  const clock = () => (now.ms += 0.25)
  const { limit: spansPerSecondMax, first = 1 } = options
  const kept = keptSpans({ clock, first, ...(spansPerSecondMax && { spansPerSecondMax }) })
  const { tracing, ended } = kept
  const driver = await TopologyTestDriver.open(topology, { startMs: START_MS, tracing, ...options })
  open.push(driver)
  return { driver, ended }
}

const input = (topology: Topology, topic = 'in') => topology.stream(topic, serdes)

test('a record without a sampled traceparent makes no spans, and goes through as it came', async () => {
  const topology = new Topology('plain')
  input(topology)
    .mapValues(value => value.toUpperCase())
    .to('out', serdes)
  const { driver, ended } = await start(topology)
  const refused = [
    '',
    'nonsense',
    traceparent(0),
    `ff${traceparent(1).slice(2)}`,
    `${traceparent(1)}-x`,
  ]
  await driver.pipe('in', record('a', 'x'), record('b', 'y', traceparent(3, '00')))
  await driver.pipe('in', ...refused.map((header, i) => record(`${i}`, 'z', header)))
  expect(ended).toEqual([])
  const [, second] = await driver.output('out', serdes)
  expect(second?.headers.traceparent).toBe(traceparent(3, '00'))
})

test('a mapped record: read, written, and the next reader follows from what was written', async () => {
  const topology = new Topology('mapped')
  input(topology)
    .filter(value => value !== 'no')
    .map((value, key) => [key, value.toUpperCase()])
    .to('out', serdes)
  const { driver, ended } = await start(topology)
  await driver.pipe('in', record('a', 'x'), record('b', 'y', 7), record('c', 'no', 8))
  expect(storyOf(ended)).toBe(['process in', '  send out', 'process in'].join('\n'))
  expect(orphans(ended, ROOT)).toEqual([])
  const send = ended.find(({ name }) => name === 'send out')!
  const written = (await driver.output('out', serdes)).map(({ headers }) => headers.traceparent)
  expect(written).toEqual([undefined, `00-${traceId(7)}-${send.context.spanId}-01`])
  const [read] = ended
  expect(read?.attributes).toMatchObject({
    'messaging.destination.name': 'in',
    'messaging.consumer.group.name': 'mapped',
    'messaging.kafka.offset': 1,
    'messaging.message.id': 'b.y',
    'millrace.wait_ms': 1,
  })
})

test('spans lie in their time: a step within its record, and what is written until it is committed', async () => {
  const topology = new Topology('times')
  input(topology)
    .groupByKey({ name: 'by-key', key: textKey() })
    .count({ name: 'counts' })
    .toStream()
    .to('out', numbers)
  const { driver, ended } = await start(topology)
  await driver.pipe('in', record('a', 'x', 1))
  const [read, step, send] = ['process in', 'counts', 'send out'].map(
    name => ended.find(span => span.name === name)!,
  )
  expect(read!.startMs).toBeLessThan(step!.startMs)
  expect(step!.startMs).toBeLessThan(step!.endMs)
  expect(step!.endMs).toBeLessThan(send!.startMs)
  expect(send!.endMs).toBe(read!.endMs)
})

test('two steps with the same record are side by side in its story', async () => {
  const topology = new Topology('branching')
  const grouped = input(topology).groupByKey({ name: 'by-key', key: textKey() })
  for (const name of ['a', 'b']) grouped.count({ name }).toStream().to(`out-${name}`, numbers)
  const { driver, ended } = await start(topology)
  await driver.pipe('in', record('a', 'x', 1))
  const story = ['process in', '  a', '    send out-a', '  b', '    send out-b']
  expect(storyOf(ended)).toBe(story.join('\n'))
})

test('a record that is keyed anew is one story on both sides of the exchange', async () => {
  const topology = new Topology('rekeyed')
  input(topology)
    .groupBy(value => value, { name: 'by-value', key: textKey() })
    .count({ name: 'counts' })
    .toStream()
    .to('out', numbers)
  const { driver, ended } = await start(topology, { partitions: 4 })
  await driver.pipe('in', record('a', 'x'), record('b', 'x', 1), record('c', 'y'))
  expect(storyOf(ended)).toBe(['process in', '  counts', '    send out'].join('\n'))
})

test('of two traced records that one result is made of, the later goes on and links to the other', async () => {
  const topology = new Topology('summed')
  input(topology)
    .groupByKey({ name: 'by-key', key: textKey() })
    .reduce({ name: 'sums', reduce: (a, b) => a + b })
    .toStream()
    .to('out', serdes)
  const { driver, ended } = await start(topology)
  await driver.pipe('in', record('a', 'x', 1), record('a', 'y', 2), record('b', 'z'))
  expect(storyOf(ended, traceId(1))).toBe(['process in', '  sums'].join('\n'))
  expect(storyOf(ended, traceId(2))).toBe(
    ['process in', '  sums ~ sums', '    send out'].join('\n'),
  )
})

const grace = { graceMs: 1000 }
const byKey = (topology: Topology) => input(topology).groupByKey({ name: 'by-key', key: textKey() })

/** Each has one step with state, which makes of a record results to `out`, at once. */
const out = <V>(stream: Stream<string, V>) =>
  stream.to('out', { key: textKey(), value: plain() as ValueSerde<V> })

const kinds: Readonly<Record<string, (topology: Topology) => void>> = {
  flatMap: topology => out(input(topology).flatMap((value, key) => [[key, value]])),
  deduplicate: topology =>
    out(input(topology).deduplicate({ name: 'step', id: value => value, ttlMs: 1000 })),
  table: topology =>
    out(
      input(topology)
        .toTable({ name: 'step', ...serdes })
        .toStream(),
    ),
  versioned: topology =>
    out(
      input(topology)
        .toTable({ name: 'step', ...serdes, versioned: { historyMs: 1000 } })
        .toStream(),
    ),
  tumbling: topology =>
    out(
      byKey(topology)
        .windowedBy(tumbling(1000, grace))
        .count({ name: 'step' })
        .toStream()
        .selectKey((_count, { key }) => key),
    ),
  sliding: topology =>
    out(
      byKey(topology)
        .windowedBy(sliding(1000, grace))
        .count({ name: 'step' })
        .toStream()
        .selectKey((_count, { key }) => key),
    ),
  sessions: topology =>
    out(
      byKey(topology)
        .windowedBy(sessions(1000, grace))
        .count({ name: 'step' })
        .toStream()
        .selectKey((_count, { key }) => key),
    ),
  topK: topology =>
    out(
      byKey(topology)
        .windowedBy(tumbling(1000, grace))
        .topK({
          name: 'step',
          k: 3,
          item: value => value,
          initial: () => 0,
          add: count => count + 1,
          score: count => count,
        })
        .toStream()
        .selectKey((_entry, { key }) => key.group),
    ),
  process: topology =>
    out(
      input(topology).process<Record<never, never>, string, string>({
        name: 'step',
        key: textKey(),
        stores: {},
        create: context => ({ process: ({ key, value }) => context.forward(key, value) }),
      }),
    ),
}

test.each(Object.keys(kinds))(
  '%s: what comes of a record is in its trace, and of no other',
  async kind => {
    const topology = new Topology('kind')
    kinds[kind]!(topology)
    const { driver, ended } = await start(topology)
    await driver.pipe('in', record('b', 'z'), record('a', 'x', 1), record('c', 'y'))
    const written = await driver.output('out', { key: textKey(), value: plain() })
    const own = written.filter(({ headers }) => headers.traceparent !== undefined)
    expect(own.map(({ key }) => key)).toEqual(['a'])
    const steps = kind === 'flatMap' ? ['  send out'] : ['  step', '    send out']
    expect(storyOf(ended)).toBe(['process in', ...steps].join('\n'))
    expect(ended.every(({ context }) => context.traceId === traceId(1))).toBe(true)
  },
)

const joinOptions = { beforeMs: 1000, afterMs: 1000, graceMs: 1000 }

function joinedTopology(): Topology {
  const topology = new Topology('joined')
  input(topology, 'left')
    .join(input(topology, 'right'), (left, right) => left + right, {
      name: 'pairs',
      ...joinOptions,
    })
    .to('out', serdes)
  return topology
}

test('a joined pair is in the trace of the record that came last, linked to the other', async () => {
  const { driver, ended } = await start(joinedTopology())
  await driver.pipe('left', record('a', 'l', 1), record('b', 'l'), record('c', 'l', 2))
  await driver.pipe('right', record('a', 'r', 3), record('b', 'r', 4), record('c', 'r'))
  // Where the last one is not traced, the first one's story goes on.
  expect(storyOf(ended, traceId(1))).toBe(['process left', '  pairs'].join('\n'))
  expect(storyOf(ended, traceId(2))).toBe(['process left', '  pairs', '    send out'].join('\n'))
  const right = ['process right', '  pairs', '    send out']
  expect(storyOf(ended, traceId(4))).toBe(right.join('\n'))
  right[1] += ' ~ pairs'
  expect(storyOf(ended, traceId(3))).toBe(right.join('\n'))
  const [link] = ended.find(({ links }) => links.length > 0)!.links
  expect(link?.traceId).toBe(traceId(1))
})

test('the link to a row that waited in a join outlives a restart', async () => {
  const before = await start(joinedTopology())
  await before.driver.pipe('left', record('a', 'l', 1))
  await before.driver.close()
  open.length = 0
  const { database } = before.driver
  const after = await start(joinedTopology(), { database, first: 100 })
  await after.driver.pipe('right', record('a', 'r', 2))
  expect(storyOf([...before.ended, ...after.ended])).toBe(
    ['process left', '  pairs', 'process right', '  pairs ~ pairs', '    send out'].join('\n'),
  )
})

test('a row of a table that a stream is joined with adds nothing; a changed table does', async () => {
  const topology = new Topology('tables')
  const left = topology.table('left', { name: 'lefts', ...serdes })
  const right = topology.table('right', { name: 'rights', ...serdes })
  left
    .join(right, (a, b) => a + b, { name: 'both' })
    .toStream()
    .to('out', { key: textKey(), value: plain() as ValueSerde<string> })
  input(topology)
    .joinTable(left, (a, b) => a + b)
    .to('looked-up', serdes)
  const { driver, ended } = await start(topology)
  await driver.pipe('left', record('a', 'l', 1))
  await driver.pipe('right', record('a', 'r', 2))
  await driver.pipe('in', record('a', 'x', 3))
  const changed = ['process right', '  rights', '    both', '      send out']
  expect(storyOf(ended, traceId(2))).toBe(changed.join('\n'))
  expect(storyOf(ended, traceId(3))).toBe(['process in', '  send looked-up'].join('\n'))
})

test('foreign keys: a changed row of either table is followed to what refers to it', async () => {
  const topology = new Topology('foreign')
  const left = topology.table('left', { name: 'lefts', ...serdes })
  const right = topology.table('right', { name: 'rights', ...serdes })
  left
    .joinForeign(right, (a, b) => a + b, { name: 'both', foreignKey: value => value })
    .toStream()
    .to('out', { key: textKey(), value: plain() as ValueSerde<string> })
  const { driver, ended } = await start(topology, { partitions: 2 })
  await driver.pipe('left', record('a', 'f', 1))
  await driver.pipe('right', record('f', 'r', 2))
  const steps = ['both-join', 'both', 'send out']
  const told = (first: string[]) =>
    [...first, ...steps].map((name, i) => '  '.repeat(i) + name).join('\n')
  const [, ...written] = storyOf(ended, traceId(2)).split('\n')
  expect(['process right', ...written].join('\n')).toBe(told(['process right', 'rights']))
  expect(storyOf(ended, traceId(1))).toMatch(
    /^process left\n {2}lefts\n {4}both-subscribe\n {6}both-join/,
  )
})

test('what a record asked for later, by a timer, is in its trace where its headers say so', async () => {
  interface Answer {
    readonly text: string
    readonly traceparent?: string
  }
  const topology = new Topology('timers')
  const stores = { asked: { key: textKey(), codec: json<Answer>() } } as const
  input(topology)
    .process<typeof stores, string, Answer>({
      name: 'answers',
      key: textKey(),
      stores,
      create: context => ({
        process({ key, value, traceparent, timeMs }) {
          const asked = { text: value, ...(traceparent && { traceparent }) }
          context.store('asked').put(key, asked)
          context.schedule({ clock: 'event', atMs: timeMs + 1, key, name: 'answer' })
        },
        onTimer({ key }) {
          context.forward(key, context.store('asked').get(key)!)
        },
      }),
    })
    .to('out', {
      key: textKey(),
      value: json<Answer>(),
      headers: ({ traceparent }) => (traceparent === undefined ? undefined : { traceparent }),
    })
  const { driver, ended } = await start(topology)
  await driver.pipe('in', record('a', 'x', 1), record('b', 'y'))
  expect(await driver.output('out', numbers)).toEqual([])
  await driver.pipe('in', { ...record('c', 'z'), timeMs: START_MS + 10 })
  expect(storyOf(ended)).toBe(['process in', '  answers', '    send out'].join('\n'))
})

test('a record that is put aside marks the span where that happened', async () => {
  const topology = new Topology('aside')
  input(topology)
    .groupByKey({ name: 'by-key', key: textKey() })
    .reduce({
      name: 'sums',
      reduce: () => {
        throw new TypeError('no')
      },
    })
  const { driver, ended } = await start(topology)
  await driver.pipe('in', record('a', 'x', 1), record('a', 'y', 1))
  const marked = ended.filter(({ status }) => status !== undefined)
  expect(marked.map(({ name, status, attributes }) => [name, status, attributes])).toEqual([
    ['sums', 'TypeError: no', expect.objectContaining({ 'millrace.dropped': 'poison' })],
  ])
})

test('an epoch that fails leaves no spans: what is written after the retry has its parents', async () => {
  let failures = 2
  const topology = new Topology('retried')
  input(topology)
    .groupByKey({ name: 'by-key', key: textKey() })
    .count({ name: 'counts' })
    .toStream()
    .mapValues(count => {
      if (failures-- > 0) throw new RetriableError('not now')
      return count
    })
    .to('out', numbers)
  const settings = { retry: { attempts: 5, firstMs: 10, maxMs: 10 } }
  const { driver, ended } = await start(topology, { settings })
  await driver.pipe('in', record('a', 'x', 1))
  expect(ended).toEqual([])
  for (let i = 0; i < 3; i++) await driver.advanceWallClock(20)
  expect(failures).toBe(-1)
  expect(storyOf(ended)).toBe(['process in', '  counts', '    send out'].join('\n'))
  expect(orphans(ended, ROOT)).toEqual([])
})

test('an epoch whose commit is refused leaves no spans either', async () => {
  const topology = new Topology('refused')
  byKey(topology).count({ name: 'counts' }).toStream().to('out', numbers)
  const { driver, ended } = await start(topology)
  await driver.append('in', [record('a', 'x', 1)])
  const { log, engine } = driver
  const begin = log.begin.bind(log)
  log.begin = () => {
    const transaction = begin()
    transaction.commit = async () => {
      throw new Error('refused')
    }
    return transaction
  }
  await engine.step()
  await expect(engine.settle()).rejects.toThrow('refused')
  log.begin = begin
  expect(ended).toEqual([])
  await driver.close()
  open.length = 0
  const again = await start(topology, { database: driver.database, first: 100 })
  await again.driver.process()
  expect(storyOf(again.ended)).toBe(['process in', '  counts', '    send out'].join('\n'))
  expect(orphans(again.ended, ROOT)).toEqual([])
})

test('beyond so many spans a second some traces are passed on as they came, with no gap', async () => {
  const topology = new Topology('limited')
  input(topology)
    .groupByKey({ name: 'by-key', key: textKey() })
    .count({ name: 'counts' })
    .toStream()
    .to('out', numbers)
  const { driver, ended } = await start(topology, { limit: 100 })
  const records = Array.from({ length: 1000 }, (_, i) => {
    const id = Math.imul(i, 0x9e3779b1) >>> 0
    return record(`${i}`, 'x', `00-${id.toString(16).padStart(32, '1')}-${ROOT}-01`)
  })
  await driver.pipe('in', ...records)
  expect(ended.length).toBeGreaterThan(100)
  expect(ended.length).toBeLessThan(1000)
  expect(orphans(ended, ROOT)).toEqual([])
  const spans = new Set([ROOT, ...ended.map(({ context }) => context.spanId)])
  const written = await driver.output('out', numbers)
  const parents = written.map(({ headers }) => headers.traceparent?.split('-')[2])
  // One that was followed to its last step goes on from there.
  const traced = new Set(written.map(({ headers }) => headers.traceparent?.split('-')[1]))
  const counted = ended.filter(({ name }) => name === 'counts')
  expect(counted.filter(({ context }) => !traced.has(context.traceId))).toEqual([])
  expect(counted.length).toBeGreaterThan(ended.filter(({ name }) => name === 'send out').length)
  expect(parents.filter(parent => parent !== undefined && !spans.has(parent))).toEqual([])
})
