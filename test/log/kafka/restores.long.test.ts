/** Instances that start at once with nothing on their disks. */
import { afterEach, expect, test } from 'vitest'
import { json, Topology, textKey } from '../../../streams/index.ts'
import { makeBatch } from '../../log/batches.ts'
import { type Application, startApplication } from '../../support/kafka/application.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { openLog } from './environment.ts'

const PARTITIONS = 4
const INSTANCES = 4
const KEYS = 5000
/** A broker's default: an empty group waits so long for more members before it places tasks. */
const DELAY_MS = 8000
const serdes = { key: textKey(), value: json<number>() }

describeOnKafka('four instances', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function start(application: string, memberId: string): Promise<Application> {
    const topology = new Topology(application)
    topology
      .stream(`${application}-numbers`, serdes)
      .groupByKey({ name: 'by-key', ...serdes })
      .aggregate({ name: 'sums', initial: () => 0, add: (sum, n) => sum + n })
    const running = await startApplication({
      bootstrap: kafka.bootstrap,
      topology,
      settings: { createPartitions: PARTITIONS },
      member: { memberId, settings: { standbyReplicas: 0, initialRebalanceDelayMs: DELAY_MS } },
    })
    closing.push(() => running.stop())
    return running
  }

  const restored = (instances: readonly Application[]) =>
    instances.reduce((sum, { engine }) => sum + (engine.restoredBytes.get('sums') ?? 0), 0)
  const isRunning = ({ engine }: Application) => engine.state === 'running'

  test('fault 12: started at once on empty disks, they read the state at most 1.2 times', async () => {
    const application = ownName('restores')
    const first = await start(application, 'member-first')
    await expect.poll(() => isRunning(first)).toBe(true)
    const log = await openLog(kafka.bootstrap, { transactionalId: `${application}-feed` })
    closing.push(() => log.close())
    const transaction = log.begin()
    const inputs = Array.from({ length: PARTITIONS }, (_, partition) => ({
      topic: `${application}-numbers`,
      partition,
    }))
    for (const input of inputs) {
      const records = Array.from({ length: KEYS }, (_, key) => ({
        key: `${input.partition}-${key}`,
        value: '1',
        timestampMs: 1_000_000,
      }))
      transaction.append(input, makeBatch(records))
    }
    await transaction.commit()
    const isDone = async () => {
      const committed = await log.committed(application, inputs)
      return committed.every(one => one !== null && one.offset >= KEYS)
    }
    await expect.poll(isDone, { timeout: 30_000 }).toBe(true)
    await first.stop()
    expect(restored([first])).toBe(0)

    // What there is to restore: one instance alone, on an empty disk.
    const alone = await start(application, 'member-alone')
    await expect.poll(() => alone.engine.assembly.tasks.length).toBe(PARTITIONS)
    const state = restored([alone])
    expect(state).toBeGreaterThan(PARTITIONS * KEYS * 10)
    await alone.stop()

    const ids = Array.from({ length: INSTANCES }, (_, i) => `member-${i}`)
    const all = await Promise.all(ids.map(id => start(application, id)))
    const tasks = () => all.map(({ engine }) => engine.assembly.tasks.length)
    await expect.poll(tasks, { timeout: 60_000 }).toEqual(ids.map(() => 1))
    await expect.poll(() => all.every(isRunning)).toBe(true)
    expect(restored(all)).toBeGreaterThanOrEqual(state)
    expect(restored(all)).toBeLessThanOrEqual(1.2 * state)
  }, 180_000)
})
