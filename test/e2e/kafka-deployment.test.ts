/** A changed topology on real Kafka: three instances stop, and start with parts that are new. */
import { afterEach, expect, test } from 'vitest'
import type { TopicPartition } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { readTopic } from '../../streams/testing/index.ts'
import { viewService } from '../../streams/view-service.ts'
import type { ViewRow } from '../../streams/views.ts'
import { environment, openLog } from '../log/kafka/environment.ts'
import { type Application, startApplication } from '../support/kafka/application.ts'
import { toolClasses } from '../support/kafka/kafka.ts'
import { describeOnKafka, ownName } from '../support/kafka/shared.ts'
import {
  PARTITIONS,
  type ShopPart,
  type ShopRecord,
  shopOracle,
  shopParts,
  shopRecords,
  shopResults,
  shopTopology,
} from '../support/shop.ts'

const NAMES = ['one', 'two', 'three']

describeOnKafka('a changed topology', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  class Shop {
    readonly prefix = `${ownName('deploy')}-`
    readonly application = `${this.prefix}shop`
    instances: Application[] = []
    readonly #disks = NAMES.map(() => new MemoryDatabase())
    readonly #read = new Map<string, number>()
    #log!: Awaited<ReturnType<typeof openLog>>

    async open(): Promise<void> {
      this.#log = await openLog(kafka.bootstrap)
      closing.push(() => this.#log.close())
      for (const topic of ['orders', 'payments', 'unpaid', 'finals']) {
        await this.#log.createTopic(this.prefix + topic, PARTITIONS)
      }
    }

    async start(parts: readonly ShopPart[]): Promise<void> {
      this.instances = await Promise.all(
        NAMES.map((name, i) =>
          startApplication({
            bootstrap: kafka.bootstrap,
            topology: shopTopology(this.prefix, parts),
            settings: { idleAfterMs: Number.POSITIVE_INFINITY },
            member: {
              memberId: `member-${name}`,
              endpoint: { host: name, port: 1 },
              // None reads before all are there: what was read is counted where it was read.
              settings: { initialRebalanceDelayMs: 3_000 },
            },
            database: this.#disks[i]!,
          }),
        ),
      )
      for (const instance of this.instances) closing.push(() => instance.stop())
    }

    async stop(): Promise<void> {
      for (const [i, instance] of this.instances.entries()) {
        await instance.stop()
        expect(instance.errors.map(String)).toEqual([])
        this.#disks[i] = this.#disks[i]!.reopen()
      }
    }

    async append(records: readonly ShopRecord[]): Promise<void> {
      const transaction = this.#log.begin()
      for (const { topic, partition, key, timeMs, value } of records) {
        const builder = new RecordBatchBuilder()
        builder.append(timeMs, bytesOf(key), bytesOf(JSON.stringify(value)))
        transaction.append({ topic: this.prefix + topic, partition }, builder.finish())
      }
      await transaction.commit()
    }

    ends(topic: string): Promise<number[]> {
      return this.#ends(`${this.prefix}${topic}`)
    }

    async #ends(topic: string): Promise<number[]> {
      const ranges = await this.#log.offsets(partitionsOf(topic))
      return ranges.map(({ highWatermark }) => highWatermark)
    }

    changelogEnds(store: string): Promise<number[]> {
      return this.#ends(`${this.application}-${store}-changelog`)
    }

    /** Offsets of the group for a topic. */
    async committed(topic: string): Promise<(number | undefined)[]> {
      const found = await this.#log.committed(this.application, partitionsOf(topic))
      return found.map(one => one?.offset)
    }

    /** All tasks run, and have come to the end of what they read. */
    async untilRead(tasks: number): Promise<void> {
      const running = () =>
        this.instances.reduce((sum, { engine }) => sum + engine.assembly.tasks.length, 0)
      await expect.poll(running, { timeout: 60_000 }).toBe(tasks)
      const behind = async () => {
        let records = 0
        for (const { engine } of this.instances) {
          for (const input of engine.assembly.inputs) {
            const [range] = await this.#log.offsets([input])
            records += range!.highWatermark - input.position
          }
        }
        return records
      }
      for (let calm = 0; calm < 3; calm = (await behind()) === 0 ? calm + 1 : 0) {
        await new Promise(resolve => setTimeout(resolve, 100))
      }
      for (const { engine } of this.instances) await engine.settle()
    }

    /** Tasks of a sub-topology as all members are told where they can be asked for. */
    async untilFound(subTopology: string): Promise<void> {
      const found = () => {
        const { endpoints } = this.instances[0]!.engine.membership!
        return endpoints.flatMap(({ active }) => active[subTopology] ?? []).sort()
      }
      await expect.poll(found).toEqual([...Array(PARTITIONS).keys()])
    }

    /** Records that branches have read in this run. */
    recordsRead(): Record<number, number> {
      const read: Record<number, number> = {}
      for (const { engine } of this.instances) {
        for (const { branch, recordsRead } of engine.assembly.sources) {
          read[branch] = (read[branch] ?? 0) + recordsRead
        }
      }
      return read
    }

    results() {
      return shopResults({
        application: this.application,
        rows: view => this.#rows(view),
        output: (topic, serdes) =>
          readTopic({ log: this.#log, topic: this.prefix + topic, serdes, positions: this.#read }),
      })
    }

    async #rows(view: string): Promise<ViewRow[]> {
      const rows: ViewRow[] = []
      for (const { engine, log } of this.instances) {
        const views = viewService({ engine, ...environment, incarnation: log.incarnation })
        let cursor: string | undefined
        do {
          const query = { key: {}, limit: 1000, ...(cursor !== undefined && { cursor }) }
          const page = await views.localRows(view, query)
          rows.push(...page.rows)
          cursor = page.next ?? undefined
        } while (cursor !== undefined)
      }
      return rows
    }

    async describe(): Promise<string> {
      const args = ['--bootstrap-server', kafka.bootstrap, '--describe', '--group']
      const { stdout } = await kafka.tool(toolClasses.streamsGroups, [...args, this.application])
      return stdout
    }
  }

  test('what was there goes on where it was; what is new is built over three instances', async () => {
    const shop = new Shop()
    await shop.open()
    const records = shopRecords(1, 400)
    const half = Math.floor(records.length / 2)
    await shop.append(records.slice(0, half))
    await shop.start(['volume', 'unpaid'])
    await shop.untilRead(2 * PARTITIONS)
    await shop.stop()
    const sources = [`${shop.prefix}orders`, `${shop.prefix}payments`]
    const offsets = await Promise.all(sources.map(topic => shop.committed(topic)))
    const volume = await shop.changelogEnds('volume')

    await shop.start(shopParts)
    await shop.untilRead(5 * PARTITIONS)
    // Only what is new has read, and it has read all.
    expect(shop.recordsRead()).toEqual({ 0: 0, 1: half })
    for (const [i, topic] of sources.entries()) {
      expectSame(await shop.committed(topic), offsets[i]!)
    }
    expect(await shop.changelogEnds('volume')).toEqual(volume)
    const positions = `${shop.application}-${shop.prefix}orders.b1-positions`
    expectSame(await shop.committed(positions), offsets[0]!)
    for (const { name } of shop.instances[0]!.engine.plan.subTopologies) {
      await shop.untilFound(name)
    }

    await shop.append(records.slice(half))
    await shop.untilRead(5 * PARTITIONS)
    expect(await shop.results()).toEqual(shopOracle(records))
    const described = await shop.describe()
    for (const topic of [...sources, positions]) expect(described).toContain(topic)
    await shop.stop()
  }, 180_000)
})

type Offsets = readonly (number | undefined)[]

/** The marker of a transaction at the end may be read or not. */
function expectSame(found: Offsets, wanted: Offsets): void {
  const apart = found.map((offset, i) => Math.abs(offset! - wanted[i]!))
  expect(Math.max(...apart), `${found} and ${wanted}`).toBeLessThanOrEqual(1)
}

function bytesOf(text: string) {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

function partitionsOf(topic: string): TopicPartition[] {
  return Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
}
