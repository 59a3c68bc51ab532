/** Runs a proof as a story of a cluster and compares everything that came of it. */
import assert from 'node:assert/strict'
import { decodeBatches } from '../../log/record-columns.ts'
import { afterPrefix, rowsPrefix } from '../../state/keys.ts'
import { changelogTopic, storeInDatabase, storesOf } from '../../streams/task-parts.ts'
import { finalWatermark, stamp } from '../oracle/inputs.ts'
import type { Proof } from '../oracle/proof.ts'
import { Random } from '../support/random.ts'
import type { Instance, SimulatedCluster } from '../support/simulation/cluster.ts'
import { play, type StoryEvent } from './story.ts'

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

/** Rows are what their changelogs fold to: where the task runs, and on its standby. */
export async function checkStores(cluster: SimulatedCluster): Promise<void> {
  const { plan } = cluster.instances[0]!.engine!
  for (const sub of plan.subTopologies) {
    for (const { name, kind } of storesOf(plan, sub)) {
      if (kind !== 'rows') continue
      for (let partition = 0; partition < sub.partitions; partition++) {
        const folded = foldedChangelog(cluster, name, partition)
        for (const instance of cluster.instances) {
          const role = roleOf(instance, `${sub.name}/${partition}`)
          if (role === undefined) continue
          const rows = await storedRows(instance, cluster.application, name, partition)
          assert.deepStrictEqual(rows, folded, `${name}-${partition} on ${instance.id}, ${role}`)
        }
      }
    }
  }
}

function roleOf({ engine }: Instance, task: string): string | undefined {
  return engine!.tasks().find(status => status.task === task)?.state
}

export async function storedRows(
  { database }: Instance,
  application: string,
  store: string,
  partition: number,
): Promise<Map<string, string>> {
  const prefix = rowsPrefix(storeInDatabase(application, store), partition)
  const gte = Buffer.from(prefix, 'latin1')
  const lt = Buffer.from(afterPrefix(prefix)!, 'latin1')
  const rows = new Map<string, string>()
  for await (const chunk of database.scan({ gte, lt })) {
    for (const { key, value } of chunk) {
      rows.set(key.toString('hex', gte.length), value.toString('hex'))
    }
  }
  return rows
}

function foldedChangelog(
  { broker, application }: SimulatedCluster,
  store: string,
  partition: number,
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
