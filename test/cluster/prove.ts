/** Runs a proof as a story of a cluster and compares everything that came of it. */
import assert from 'node:assert/strict'
import type { TopicPartition } from '../../log/port.ts'
import { AT, readBatchHeaders } from '../../log/record-batch.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { AppendKeys } from '../../state/append-format.ts'
import { afterPrefix, encodeTime, rowsPrefix } from '../../state/keys.ts'
import type { MemoryDatabase } from '../../state/memory-database.ts'
import type { SubTopology } from '../../streams/plan.ts'
import { changelogTopic, storeInDatabase, storesOf } from '../../streams/task-parts.ts'
import { finalWatermark, stamp } from '../oracle/inputs.ts'
import type { Proof } from '../oracle/proof.ts'
import { Random } from '../support/random.ts'
import type { Instance, SimulatedCluster } from '../support/simulation/cluster.ts'
import { play, type StoryEvent } from './story.ts'

/** After every key in hexadecimal. */
const AFTER_HEX = 'g'

export interface ProofStory {
  readonly seed: number
  readonly events?: readonly StoryEvent[]
}

/** Rejects when the cluster gives anything else than the oracle; resolves with what happened. */
export async function proveOnCluster<R>(
  proof: Proof<R>,
  { seed, events }: ProofStory,
): Promise<SimulatedCluster> {
  const { topology, partitions, settings } = proof
  const inputs = proof.inputs(new Random(seed % 3))
  const cluster = await play({
    seed,
    topology,
    partitions,
    inputs,
    ...(settings && { settings }),
    ...(events && { events }),
  })
  const wanted = proof.oracle(stamp(inputs), finalWatermark(inputs))
  assert.deepStrictEqual(await proof.results(cluster), wanted)
  proof.reaches?.(wanted)
  await checkStores(cluster)
  await cluster.close()
  return cluster
}

/**
 * Rows are what their changelogs fold to, and blocks the same, where the task runs and on its
 * standby. Resolves with how many copies of standbys were looked at.
 */
export async function checkStores(cluster: SimulatedCluster): Promise<number> {
  const { plan } = cluster.instances[0]!.engine!
  let copies = 0
  for (const sub of plan.subTopologies) {
    for (const { name, kind } of storesOf(plan, sub)) {
      for (let partition = 0; partition < sub.partitions; partition++) {
        const place = { application: cluster.application, store: name, partition }
        const copiesHere =
          kind === 'rows' ? checkRows(cluster, sub, place) : checkBlocks(cluster, sub, place)
        copies += await copiesHere
      }
    }
  }
  return copies
}

/** Instances with a task, the one that runs it first. */
function holdersOf(cluster: SimulatedCluster, task: string): readonly [Instance, string][] {
  return cluster.instances
    .map((instance): [Instance, string] => [instance, roleOf(instance, task) ?? ''])
    .filter(([, role]) => role !== '')
    .sort(([, one], [, other]) => Number(one === 'standby') - Number(other === 'standby'))
}

async function checkRows(cluster: SimulatedCluster, sub: SubTopology, place: StorePlace) {
  const { application, store, partition } = place
  const holders = holdersOf(cluster, `${sub.name}/${partition}`)
  const wanted = foldedChangelog(cluster, place)
  const prefix = rowsPrefix(storeInDatabase(application, store), partition)
  const range = {
    gte: Buffer.from(prefix, 'latin1'),
    lt: Buffer.from(afterPrefix(prefix)!, 'latin1'),
  }
  for (const [{ database, id }, role] of holders) {
    const rows = await entriesOf(database, range)
    const found = new Map([...rows].map(([key, value]) => [key.slice(2 * prefix.length), value]))
    assert.deepStrictEqual(found, wanted, `${store}-${partition} on ${id}, ${role}`)
  }
  return holders.length - 1
}

/**
 * Blocks are the same on all, from the segment of the oldest block in the log: that one is live,
 * and what is older may have expired, which each copy drops in its own time.
 */
async function checkBlocks(cluster: SimulatedCluster, sub: SubTopology, place: StorePlace) {
  const { application, store, partition } = place
  const range = new AppendKeys(storeInDatabase(application, store), partition).range('b')
  const holders = holdersOf(cluster, `${sub.name}/${partition}`)
  const found = await Promise.all(
    holders.map(async ([{ database }]) => [...(await entriesOf(database, range))]),
  )
  const oldest = oldestBlock(cluster, { topic: changelogTopic(application, store), partition })
  const [from] = found[0]!.find(([key]) => key.endsWith(oldest)) ?? []
  const segment = from?.slice(0, -oldest.length) ?? AFTER_HEX
  // The log gives each batch its offset, in copies that were read back.
  const [active, ...standbys] = found.map(entries =>
    entries
      .filter(([key]) => key >= segment)
      .map(([key, value]) => [key, value.slice(2 * AT.magic)]),
  )
  for (const [i, copy] of standbys.entries()) {
    assert.deepStrictEqual(copy, active, `${store}-${partition} on ${holders[i + 1]![0].id}`)
  }
  return standbys.length
}

/** The id of a changelog's first block, as keys end with it. */
function oldestBlock({ broker }: SimulatedCluster, changelog: TopicPartition): string {
  const { startOffset } = broker.offsets(changelog)
  const { bytes } = broker.read({ ...changelog, offset: startOffset, bytesMax: 1 })
  const [header] = readBatchHeaders(bytes)
  return Buffer.from(encodeTime(header?.baseOffset ?? -1), 'latin1').toString('hex')
}

interface StorePlace {
  readonly application: string
  readonly store: string
  readonly partition: number
}

function roleOf({ engine }: Instance, task: string): string | undefined {
  return engine!.tasks().find(status => status.task === task)?.state
}

async function entriesOf(
  database: MemoryDatabase,
  range: { readonly gte: Buffer; readonly lt: Buffer },
): Promise<Map<string, string>> {
  const entries = new Map<string, string>()
  for await (const chunk of database.scan(range)) {
    for (const { key, value } of chunk) entries.set(key.toString('hex'), value.toString('hex'))
  }
  return entries
}

function foldedChangelog(
  { broker }: SimulatedCluster,
  { application, store, partition }: StorePlace,
): Map<string, string> {
  const rows = new Map<string, string>()
  const topic = changelogTopic(application, store)
  const request = { topic, partition, offset: 0, bytesMax: Number.MAX_SAFE_INTEGER }
  for (const columns of decodeBatches(broker.read(request).bytes).runs) {
    const { bytes } = columns
    for (let i = 0; i < columns.length; i++) {
      const key = bytes.toString('hex', columns.keyStart[i]!, columns.keyEnd[i]!)
      if (columns.valueStart[i]! < 0) rows.delete(key)
      else rows.set(key, bytes.toString('hex', columns.valueStart[i]!, columns.valueEnd[i]!))
    }
  }
  return new Map([...rows].sort(([a], [b]) => (a < b ? -1 : 1)))
}
