/**
 * Proofs that every stateful step has to pass beside its facts: results equal those of an
 * oracle that knows nothing of batches; they stay equal however the input is cut and its
 * partitions interleave; and they stay equal when the process is killed at its crash points,
 * finds its local rows lost, or has a commit refused.
 */
import { expect, test } from 'vitest'
import type { Database } from '../../log/database.ts'
import type { TopicPartition } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { afterPrefix, metadataKey, rowsPrefix } from '../../state/keys.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import type { EngineSettings } from '../../streams/environment.ts'
import type { Plan } from '../../streams/plan.ts'
import { changelogTopic, storeInDatabase, storesOf } from '../../streams/task-parts.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { Random } from '../support/random.ts'
import { finalWatermark, type Input, interleave, stamp } from './inputs.ts'
import type { Proof, ProofRuns } from './proof.ts'

/** Registers the proofs of a step as tests. */
export function proofSuite<R>(step: string, proof: Proof<R>, runs: ProofRuns = {}): void {
  const { oracles = 5, cuts = 12, kills = 12, seed: from = 0 } = runs
  test(`${step}: a backlog gives what the oracle computes`, async () => {
    for (let seed = from + 1; seed <= from + oracles; seed++) {
      const inputs = proof.inputs(new Random(seed))
      const driver = await open(proof, {})
      await append(driver, inputs)
      await driver.process()
      await check(proof, { driver, inputs, seed })
      await driver.close()
    }
  })
  test(`${step}: equal under ${cuts} random cuts and interleavings`, async () => {
    for (let i = 0; i < cuts; i++) await runCut(proof, from + 100 + i)
  })
  test(`${step}: equal after kills at random crash points, ${kills} runs`, async () => {
    let killed = 0
    for (let i = 0; i < kills; i++) killed += await runKilled(proof, from + 200 + i)
    expect(killed).toBeGreaterThan(kills * 3)
  })
}

interface Opening {
  readonly database?: Database
  readonly settings?: Partial<EngineSettings>
  readonly reached?: () => void
}

function open<R>(proof: Proof<R>, opening: Opening): Promise<TopologyTestDriver> {
  return TopologyTestDriver.open(proof.topology(), {
    partitions: proof.partitions,
    ...opening,
    settings: {
      idleAfterMs: Number.POSITIVE_INFINITY,
      ...proof.settings,
      ...opening.settings,
    },
  })
}

export async function append(driver: TopologyTestDriver, inputs: readonly Input[]): Promise<void> {
  for (const topic of new Set(inputs.map(input => input.topic))) {
    await driver.append(
      topic,
      inputs.filter(input => input.topic === topic),
    )
  }
}

interface Checked {
  readonly driver: TopologyTestDriver
  readonly inputs: readonly Input[]
  readonly seed: number
}

async function check<R>(proof: Proof<R>, { driver, inputs, seed }: Checked): Promise<void> {
  const wanted = proof.oracle(stamp(inputs), finalWatermark(inputs))
  const results = await proof.results(driver)
  expect(results, `seed ${seed}`).toEqual(wanted)
  proof.reaches?.(wanted)
  await checkStores(driver)
}

function randomSettings(random: Random): Partial<EngineSettings> {
  return {
    epochRecordsMax: random.pick([1, 7, 50, 1000]),
    alignMs: random.pick([10, 1000, 1_000_000]),
    storeCacheBytes: random.pick([0, 2000, 1_000_000]),
    closeRowsMax: random.pick([1, 2, 3, 10_000]),
  }
}

async function runCut<R>(proof: Proof<R>, seed: number): Promise<void> {
  const random = new Random(seed)
  const inputs = proof.inputs(new Random(seed % 3))
  const driver = await open(proof, { settings: randomSettings(random) })
  for (const cut of interleave(inputs, random)) {
    await append(driver, cut)
    if (random.below(3) > 0) await driver.process()
  }
  await driver.process()
  await check(proof, { driver, inputs, seed })
  await driver.close()
}

/** Runs with kills; resolves with how many there were. */
async function runKilled<R>(proof: Proof<R>, seed: number): Promise<number> {
  const random = new Random(seed)
  const inputs = proof.inputs(new Random(seed % 3))
  const settings = randomSettings(random)
  const process = new KilledProcess(random)
  const start = () =>
    open(proof, { settings, database: process.database, reached: process.reached })
  let driver = await start()
  for (const cut of interleave(inputs, random)) {
    process.armed = false
    await append(driver, cut)
    process.armed = true
    for (let done = false; !done; ) {
      try {
        if (process.dead) {
          await process.restart(driver.engine.plan)
          driver = await start()
        }
        if (random.below(3) > 0) await driver.process()
        done = true
      } catch (error) {
        if (!process.dead) throw error
      }
    }
  }
  process.armed = false
  await driver.process()
  await check(proof, { driver, inputs, seed })
  await driver.close()
  return process.kills
}

/** A process that dies at random crash points and commits; its database outlives it. */
export class KilledProcess {
  database: MemoryDatabase
  armed = false
  dead = false
  kills = 0
  readonly #random: Random
  readonly #apart: number
  #left: number

  /** `apart`: the most crash points that it passes before it is killed at the next. */
  constructor(random: Random, apart = 40) {
    this.#random = random
    this.#apart = apart
    this.#left = random.below(apart)
    this.database = new MemoryDatabase(this.#options)
  }

  get #options() {
    return { beforeCommit: () => this.reached() }
  }

  readonly reached = (): void => {
    if (!this.armed) return
    // What is dead does nothing any more.
    if (!this.dead && --this.#left >= 0) return
    if (!this.dead) this.kills++
    this.dead = true
    this.#left = this.#random.below(this.#apart)
    throw new Error('killed')
  }

  /** The next process finds what was committed; sometimes all local rows are gone. */
  async restart(...plans: readonly Plan[]): Promise<void> {
    this.armed = false
    this.database = this.database.reopen(this.#options)
    if (this.#random.below(3) === 0) {
      for (const plan of plans) await loseRows(this.database, plan)
    }
    this.dead = false
    this.armed = true
  }
}

interface StorePartition {
  readonly store: string
  readonly partition: number
  readonly changelog: TopicPartition
}

/** Every partition of every store of rows of a topology. */
function rowStores(plan: Plan): StorePartition[] {
  const { topology } = plan
  return plan.subTopologies.flatMap(sub =>
    storesOf(plan, sub)
      .filter(spec => spec.kind === 'rows')
      .flatMap(({ name }) =>
        Array.from({ length: sub.partitions }, (_, partition) => ({
          store: storeInDatabase(topology.application, name),
          partition,
          changelog: { topic: changelogTopic(topology.application, name), partition },
        })),
      ),
  )
}

async function loseRows(database: Database, plan: Plan) {
  const batch = database.batch()
  for (const { store, partition } of rowStores(plan)) {
    const prefix = rowsPrefix(store, partition)
    batch.deleteRange(Buffer.from(prefix, 'latin1'), Buffer.from(afterPrefix(prefix)!, 'latin1'))
    batch.delete(metadataKey(store, partition, 'applied'))
  }
  await batch.commit()
}

/** Each store's rows are what its changelog folds to. */
export async function checkStores(driver: TopologyTestDriver): Promise<void> {
  for (const place of rowStores(driver.engine.plan)) {
    const rows = await storedRows(driver, place)
    const folded = await foldedChangelog(driver, place.changelog)
    expect(folded, `${place.store}/${place.partition} and its changelog`).toEqual(rows)
  }
}

async function storedRows(
  { database }: TopologyTestDriver,
  { store, partition }: StorePartition,
): Promise<Map<string, string>> {
  const prefix = rowsPrefix(store, partition)
  const gte = Buffer.from(prefix, 'latin1')
  const lt = Buffer.from(afterPrefix(prefix)!, 'latin1')
  const rows = new Map<string, string>()
  for await (const chunk of database.scan({ gte, lt })) {
    for (const { key, value } of chunk) {
      rows.set(key.subarray(gte.length).toString('hex'), value.toString('hex'))
    }
  }
  return rows
}

async function foldedChangelog(
  { log }: TopologyTestDriver,
  target: TopicPartition,
): Promise<Map<string, string>> {
  const rows = new Map<string, string>()
  const [range] = await log.offsets([target])
  for (let offset = range!.startOffset; offset < range!.endOffset; ) {
    const [response] = await log.fetch([{ ...target, offset, bytesMax: 1 << 20 }])
    const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
    for (const columns of runs) {
      for (let i = 0; i < columns.length; i++) {
        const { bytes } = columns
        const key = bytes.toString('hex', columns.keyStart[i]!, columns.keyEnd[i]!)
        if (columns.valueStart[i]! < 0) rows.delete(key)
        else rows.set(key, bytes.toString('hex', columns.valueStart[i]!, columns.valueEnd[i]!))
      }
    }
    offset = nextOffset
  }
  return new Map([...rows].sort(([a], [b]) => (a < b ? -1 : 1)))
}
