/** Dead letters of an application that runs on two instances over Kafka. */
import { afterEach, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { partitionOf } from '../../log/murmur2.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import {
  type ActRequest,
  DeadLetterAdmin,
  type LetterOutcome,
} from '../../streams/dead-letter-admin.ts'
import type { DeadLetter } from '../../streams/dead-letter-record.ts'
import { MillraceError } from '../../streams/errors.ts'
import { json, RetriableError, Topology, text, textKey } from '../../streams/index.ts'
import { readRange } from '../../streams/read-range.ts'
import { replayRefusal } from '../../streams/replay-steps.ts'
import { type Application, startApplication } from '../support/kafka/application.ts'
import { describeOnKafka, ownName } from '../support/kafka/shared.ts'

const PARTITIONS = 4
const RECORDS = 600
const TEST_MS = 120_000
const DAY = 24 * 60 * 60 * 1000
const LINES = { key: textKey(), value: text() }
const replay: ActRequest = { action: 'replay', by: 'test', dryRun: false }

/** Stands for the code before and after the fix, and for something outside that comes back. */
interface World {
  broken: boolean
  readonly down: Map<number, number>
}

interface Event {
  readonly id: number
  readonly group: string
}

const isBad = (id: number) => id % 20 === 7
const isFlaky = (id: number) => id % 50 === 11

/** The bug is behind an exchange, so that records cross between the instances before it. */
function buggy(prefix: string, world: World): Topology {
  const topology = new Topology(`${prefix}app`)
  topology
    .stream(`${prefix}in`, { key: textKey(), value: json<Event>() })
    .deduplicate({ name: 'unique', id: { header: 'ce_id' }, ttlMs: DAY })
    .groupBy(({ group }) => group, { name: 'by-group', key: textKey() })
    .stream.filter(
      ({ id }) => {
        if (world.broken && isBad(id)) throw new TypeError(`cannot deal with ${id}`)
        const left = world.down.get(id) ?? 0
        world.down.set(id, left - 1)
        if (left > 0) throw new RetriableError(`${id} is not there yet`)
        return true
      },
      { name: 'checked' },
    )
    .mapValues(({ id }) => String(id))
    .to(`${prefix}out`, LINES)
  return topology
}

async function appendEvents({ log }: Application, prefix: string): Promise<void> {
  const builders = Array.from({ length: PARTITIONS }, () => new RecordBatchBuilder())
  const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
  for (let id = 0; id < RECORDS; id++) {
    const key = Buffer.from(`k${id}`)
    const value = Buffer.from(JSON.stringify({ id, group: `g${id % 16}` }))
    builders[partitionOf(key, 0, key.length, PARTITIONS)]!.append(
      Date.now(),
      whole(key),
      whole(value),
      [['ce_id', Buffer.from(`e${id}`)]],
    )
  }
  const transaction = log.begin()
  builders.forEach((builder, partition) => {
    transaction.append({ topic: `${prefix}in`, partition }, builder.finish())
  })
  await transaction.commit()
}

function adminOf({ log, engine: { topology } }: Application): DeadLetterAdmin {
  const refusal = (letter: DeadLetter) => replayRefusal(topology, letter)
  return new DeadLetterAdmin({
    application: topology.application,
    log,
    clock: effects.clock,
    refusal,
  })
}

/** All numbers in a topic, sorted. */
async function writtenTo({ log }: Application, topic: string): Promise<number[]> {
  const numbers: number[] = []
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const [range] = await log.offsets([{ topic, partition }])
    const span = { topic, partition, from: 0, to: range!.endOffset }
    await readRange(log, span, ({ bytes, valueStart, valueEnd }, row) => {
      numbers.push(Number(bytes.utf8Slice(valueStart[row], valueEnd[row])))
    })
  }
  return numbers.sort((a, b) => a - b)
}

/** All open letters, again when others were at them. */
async function replayAll(admin: DeadLetterAdmin): Promise<LetterOutcome[]> {
  for (;;) {
    try {
      const page = await admin.actAll(replay, { filter: { state: 'open' }, limit: 1000 })
      return [...page.letters]
    } catch (error) {
      if (!(error instanceof MillraceError && error.recovery === 'retry')) throw error
    }
  }
}

describeOnKafka('dead letters on two instances', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  test(
    'each is there once, and replayed once by two at the same time, for its step alone',
    async () => {
      const prefix = `${ownName('letters')}-`
      const down = new Map<number, number>()
      for (let id = 0; id < RECORDS; id++) if (isFlaky(id)) down.set(id, 2)
      const world: World = { broken: true, down }
      const start = async (memberId: string) => {
        const settings = { createPartitions: PARTITIONS }
        const member = { memberId }
        const topology = buggy(prefix, world)
        const { bootstrap } = kafka
        const app = await startApplication({ bootstrap, topology, settings, member })
        closing.push(() => app.stop())
        return app
      }
      const apps = [await start('one'), await start('two')]
      for (const { engine } of apps) {
        await expect.poll(() => engine.state, { timeout: 60_000 }).toBe('running')
      }
      await appendEvents(apps[0]!, prefix)
      const admins = apps.map(adminOf)
      const bad = Array.from({ length: RECORDS }, (_, id) => id).filter(isBad)
      const states = async () => {
        const query = { filter: {}, limit: 1000 }
        const page = await admins[1]!.list(query, ({ state, letter }) => {
          return `${state} ${letter.detail}`
        })
        return [...page.letters].sort()
      }
      const told = (state: string) =>
        bad.map(id => `${state} TypeError: cannot deal with ${id}`).sort()
      await expect.poll(states, { timeout: 60_000 }).toEqual(told('open'))
      const out = () => writtenTo(apps[0]!, `${prefix}out`)
      const all = Array.from({ length: RECORDS }, (_, id) => id)
      const good = all.filter(id => !isBad(id))
      await expect.poll(out, { timeout: 60_000 }).toEqual(good)
      world.broken = false
      const outcomes = (await Promise.all([...admins, ...admins].map(replayAll))).flat()
      const changed = outcomes.filter(each => 'changed' in each && each.changed)
      expect(new Set(changed.map(({ offset }) => offset)).size).toBe(bad.length)
      expect(changed).toHaveLength(bad.length)
      await expect.poll(states, { timeout: 60_000 }).toEqual(told('replayed'))
      await expect.poll(out, { timeout: 60_000 }).toEqual(all)
      for (const { errors } of apps) expect(errors).toEqual([])
    },
    TEST_MS,
  )
})
