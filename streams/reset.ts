/**
 * Makes an application start anew from its input: its state, changelogs and dead letters are
 * deleted and its offsets put back to the start of the input topics. Input and output topics
 * stay as they are. Nothing may run on the database meanwhile.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { EventLog } from '../log/port.ts'
import { forgetFingerprint } from '../state/fingerprint.ts'
import { deadLetterTopic } from './assembly.ts'
import { storeInBranch } from './branches.ts'
import { deadLetterMarksTopic } from './dead-letter-marks.ts'
import { branchesOfStore } from './lineage.ts'
import { changelogTopic, storeInDatabase } from './task-parts.ts'
import type { Topology, TopologyNode } from './topology.ts'

export interface ResetReport {
  /** Topics deleted. */
  readonly topics: readonly string[]
  /** Partitions whose offset went back to the start. */
  readonly partitions: number
}

export interface ResetOptions {
  readonly application: string
  /** Topics that the application reads. */
  readonly inputs: readonly string[]
  readonly database: Database
  readonly log: EventLog
  /** Only says what would be done. */
  readonly dryRun?: boolean
}

export async function resetApplication(options: ResetOptions): Promise<ResetReport> {
  const { application, inputs, database, log, dryRun } = options
  const all = await log.listTopics()
  const isInternal = (name: string) =>
    (name.startsWith(`${application}-`) && /-(changelog|repartition|positions)$/.test(name)) ||
    name === deadLetterTopic(application) ||
    name === deadLetterMarksTopic(application)
  const topics = all.map(({ name }) => name).filter(isInternal)
  const targets = all
    .filter(({ name }) => inputs.includes(name))
    .flatMap(({ name, partitions }) =>
      Array.from({ length: partitions }, (_, partition) => ({ topic: name, partition })),
    )
  const report = { topics, partitions: targets.length }
  if (dryRun) return report
  const ranges = await log.offsets(targets)
  const offsets = targets.map((target, i) => ({
    ...target,
    offset: ranges[i]!.startOffset,
    metadata: '',
  }))
  const prefix = storeInDatabase(application, '')
  // State and offsets go together; a changelog that is left over would be found foreign.
  await log.begin().commit({
    group: application,
    offsets,
    state: (_, batch) => deleteRows(batch, prefix),
  })
  await forgetFingerprint(database, name => name.startsWith(prefix))
  for (const name of topics) await log.deleteTopic(name)
  return report
}

/** Of the state, blocks and metadata of stores whose names begin so. */
function deleteRows(batch: WriteBatch, prefix: string): void {
  for (const kind of ['S', 'B', 'M']) {
    batch.deleteRange(Buffer.from(kind + prefix), Buffer.from(`${kind}${prefix}\xff`, 'latin1'))
  }
}

export interface StoresToReset {
  readonly stores: readonly string[]
  /** Steps with state below: what these have of the old state would not fit. */
  readonly below: readonly string[]
}

/** Stores of steps, by names of steps or stores; other names are stores of steps that are gone. */
export function storesToReset({ nodes }: Topology, names: readonly string[]): StoresToReset {
  const stateful = nodes.filter(node => node.kind === 'operator' && node.stores.length > 0)
  const storesOf = (node: TopologyNode) =>
    node.kind === 'operator' ? node.stores.map(({ name }) => name) : []
  const steps = new Set<TopologyNode>(
    stateful.filter(node => [node.name, ...storesOf(node)].some(name => names.includes(name))),
  )
  const known = new Set([...steps].flatMap(node => [node.name, ...storesOf(node)]))
  const reached = new Set(steps)
  for (const node of nodes) {
    if (node.parents.some(edge => reached.has(nodes[edge.node]!))) reached.add(node)
  }
  const below = stateful.filter(node => reached.has(node) && !steps.has(node))
  return {
    stores: [...[...steps].flatMap(storesOf), ...names.filter(name => !known.has(name))],
    below: below.map(({ name }) => name),
  }
}

/**
 * Deletes what one store holds, in every branch in which it began: of a step that is gone, or that
 * shall be built anew. Nothing may run on the database meanwhile. Resolves with its changelogs;
 * none where there is no such store.
 */
export async function resetStore(
  options: Omit<ResetOptions, 'inputs'> & { readonly store: string },
): Promise<string[]> {
  const { application, store, database, log, dryRun } = options
  const topics = (await log.listTopics()).map(({ name }) => name)
  const branches = branchesOfStore(application, store, topics)
  const names = branches.map(branch => storeInBranch(store, branch))
  const changelogs = names.map(name => changelogTopic(application, name))
  if (dryRun) return changelogs
  for (const name of names) {
    const own = storeInDatabase(application, name)
    const batch = database.batch()
    deleteRows(batch, `${own}\0`)
    await batch.commit()
    await forgetFingerprint(database, other => other === own)
    await log.deleteTopic(changelogTopic(application, name))
  }
  return changelogs
}
