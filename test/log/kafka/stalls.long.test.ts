/** An application whose event loop stands still, and one whose system's clock is set. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { effects } from '../../../cli/effects.ts'
import { followingClock } from '../../../cli/following-clock.ts'
import type { EngineEnvironment } from '../../../streams/environment.ts'
import { json, Topology, textKey } from '../../../streams/index.ts'
import { readTopic } from '../../../streams/testing/read-topic.ts'
import { makeBatch } from '../../log/batches.ts'
import { type Application, startApplication } from '../../support/kafka/application.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { openLog } from './environment.ts'

const SESSION_MS = 4000
const TRANSACTION_MS = 10_000
const PARTITIONS = 2
const KEYS = 10
const hourMs = 3_600_000
const serdes = { key: textKey(), value: json<number>() }

describeOnKafka('an application', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function prepare() {
    const application = ownName('stalls')
    const log = await openLog(kafka.bootstrap, { transactionalId: `${application}-feed` })
    closing.push(() => log.close())
    await log.createTopic(`${application}-numbers`, PARTITIONS)
    return { application, log }
  }

  type Prepared = Awaited<ReturnType<typeof prepare>>

  /** Numbers in, running counts by key out; `seen` is called with each number. */
  async function start(
    { application }: Prepared,
    seen: (n: number) => void,
    environment: EngineEnvironment = effects,
  ): Promise<Application> {
    const topology = new Topology(application)
    const changes = topology
      .stream(`${application}-numbers`, serdes)
      .mapValues(n => {
        seen(n)
        return n
      })
      .groupByKey({ name: 'by-key', ...serdes })
      .count({ name: 'counts' })
      .toStream()
    changes.to(`${application}-counts`, serdes)
    const running = await startApplication({
      bootstrap: kafka.bootstrap,
      topology,
      environment,
      settings: { createPartitions: PARTITIONS },
      member: { settings: { sessionTimeoutMs: SESSION_MS, heartbeatIntervalMs: 500 } },
    })
    closing.push(() => running.stop())
    return running
  }

  /** The next number for every key, one transaction. */
  async function feed({ application, log }: Prepared, n: number): Promise<void> {
    const transaction = log.begin()
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const own = Array.from({ length: KEYS }, (_, key) => ({
        key: `${partition}-${key}`,
        value: String(n),
        timestampMs: 1_000_000 + n,
      }))
      transaction.append({ topic: `${application}-numbers`, partition }, makeBatch(own))
    }
    await transaction.commit()
  }

  /** The last count of each key, and how often any was written twice. */
  async function counts({ application, log }: Prepared): Promise<Map<string, number>> {
    const topic = `${application}-counts`
    const last = new Map<string, number>()
    for (const { key, value } of await readTopic({ log, topic, serdes, positions: new Map() })) {
      expect(value, `${key} only rises`).toBeGreaterThan(last.get(key!) ?? 0)
      last.set(key!, value!)
    }
    return last
  }

  async function untilCounted(prepared: Prepared, total: number): Promise<void> {
    const all = Array.from({ length: PARTITIONS * KEYS }, (_, i) => [
      `${Math.floor(i / KEYS)}-${i % KEYS}`,
      total,
    ])
    await expect.poll(() => counts(prepared)).toEqual(new Map(all as [string, number][]))
  }

  test('fault 16: held by a step beyond session and transaction comes back; nothing is doubled', async () => {
    const prepared = await prepare()
    // Before: its feeder stands still with it.
    for (let n = 1; n <= 6; n++) await feed(prepared, n)
    let held = false
    const running = await start(prepared, n => {
      if (n !== 3 || held) return
      held = true
      const untilMs = performance.now() + TRANSACTION_MS + 2000
      while (performance.now() < untilMs);
    })
    await untilCounted(prepared, 6)
    expect(held).toBe(true)
    await expect.poll(() => running.engine.state).toBe('running')
  })

  test('fault 39: the system’s clock set forward and back by hours changes no result', async () => {
    let setMs = 0
    const clock = followingClock(
      () => Date.now() + setMs,
      () => performance.now(),
    )
    const prepared = await prepare()
    const running = await start(prepared, () => {}, { ...effects, clock })
    await expect.poll(() => running.engine.state, { timeout: 30_000 }).toBe('running')
    let n = 0
    for (const step of [hourMs, -hourMs, -24 * hourMs, 0]) {
      setMs = step
      for (let i = 0; i < 5; i++) await feed(prepared, ++n)
      // Longer than a session: a member that waits for the clock would be out of it.
      await sleep(SESSION_MS + 1000)
      await untilCounted(prepared, n)
      await expect.poll(() => running.engine.state).toBe('running')
    }
  })
})
