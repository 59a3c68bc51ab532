/** Everything in a data folder, read and checked: the log, and the state of its applications. */
import { decodeEvent } from '../contracts/event-codec.ts'
import { eventTopics, inputPartitions } from '../contracts/topics.ts'
import type { Database } from '../log/database.ts'
import { examineLog, type LogReport, type RecognizedTopic } from '../log/embedded/examine.ts'
import { batchKey, type PartitionId } from '../log/embedded/keys.ts'
import { reasonOf } from '../log/errors.ts'
import { decodeBatches } from '../log/record-columns.ts'
import { examineStore, type StoreReport } from '../state/examine.ts'
import {
  type Fingerprint,
  fingerprintChanges,
  readFingerprint,
  type StoreIdentity,
} from '../state/fingerprint.ts'
import type { Codec } from '../state/port.ts'
import { branchOfPositions, branchTopology } from '../streams/branches.ts'
import { lineageOf } from '../streams/lineage.ts'
import { type Plan, planTopology } from '../streams/plan.ts'
import { stateIdentity } from '../streams/state-identity.ts'
import { changelogTopic, storeInDatabase, storesOf } from '../streams/task-parts.ts'
import type { Topology } from '../streams/topology.ts'
import { effects } from './effects.ts'

export interface Examination {
  readonly log: LogReport
  readonly fingerprint: Fingerprint
  /** False when the record of the stores could not be read. */
  readonly fingerprintWhole: boolean
  readonly stores: readonly StoreReport[]
  /** What is wrong and belongs to no partition or store. */
  readonly problems: readonly string[]
}

export interface ExaminationOptions {
  /** Those of the applications that may have written here. */
  readonly topologies: readonly Topology[]
  /** A sentence about what is being read. */
  readonly onProgress: (text: string) => void
}

/** Name of the application that a store belongs to. */
export function applicationOf(store: string): string {
  return store.slice(0, store.indexOf('.'))
}

/** The changelog topic of a store as the database names it. */
export function changelogOf(store: string): string {
  const application = applicationOf(store)
  return changelogTopic(application, store.slice(application.length + 1))
}

export async function examine(
  database: Database,
  { topologies, onProgress }: ExaminationOptions,
): Promise<Examination> {
  const log = await examineLog(database, {
    onProgress: (topic, partition, records) =>
      onProgress(`${topic}-${partition}: ${records} records`),
    recognize,
  })
  const problems = [...log.problems]
  let fingerprint: Fingerprint = new Map()
  let fingerprintWhole = true
  try {
    fingerprint = await readFingerprint(database)
  } catch (error) {
    fingerprintWhole = false
    problems.push(`the record of the stores is unreadable: ${reasonOf(error)}`)
  }
  const plans = topologies.flatMap(topology => planOf(topology, log) ?? [])
  for (const plan of plans) problems.push(...foreignStores(fingerprint, plan))
  const codecs = new Map(plans.flatMap(codecsOf))
  const stores: StoreReport[] = []
  for (const [name, identity] of fingerprint) {
    for (let partition = 0; partition < identity.partitions; partition++) {
      onProgress(`store ${name}/${partition}`)
      const codec = codecs.get(name)
      const place = { name, partition, identity, ...(codec && { codec }) }
      stores.push(await examineOne(database, log, place))
    }
  }
  return { log, fingerprint, fingerprintWhole, stores, problems }
}

/** An event says which topic it is of. */
function recognize(batch: Buffer): RecognizedTopic | undefined {
  try {
    const [columns] = decodeBatches(batch).runs
    const { type } = decodeEvent(columns!.bytes, columns!.valueStart[0]!, columns!.valueEnd[0]!)
    const id = effects.randomBytes(16).toString('base64url')
    return { name: eventTopics[type], partitions: inputPartitions, id }
  } catch {
    return undefined
  }
}

/** The plan of the topology, if its input topics are there. */
function planOf(topology: Topology, log: LogReport): Plan | undefined {
  try {
    const partitions = log.topics.map(({ name, row }) => [name, row.partitions] as const)
    const topics = log.topics.map(({ name }) => name)
    const own = log.groups.filter(({ group }) => group === topology.application)
    const read = new Set(
      own.flatMap(({ id, offset }) =>
        log.partitions
          .filter(
            ({ id: { topic, partition } }) => topic === id.topic && partition === id.partition,
          )
          .filter(({ startOffset, topic }) => offset > startOffset || branchOfPositions(topic) > 0)
          .map(({ topic }) => topic),
      ),
    )
    const lineage = lineageOf({ topology, newState: 'beginning' }, { topics, read })
    return planTopology(branchTopology(topology, lineage), new Map(partitions))
  } catch {
    return undefined
  }
}

function foreignStores(fingerprint: Fingerprint, plan: Plan): string[] {
  const changes = fingerprintChanges(fingerprint, stateIdentity(plan))
  return [...changes].map(([name, why]) => `store ${name} was written by another topology: ${why}`)
}

function codecsOf(plan: Plan): [string, Codec<unknown>][] {
  const { application } = plan.topology
  return plan.subTopologies
    .flatMap(subTopology => storesOf(plan, subTopology))
    .flatMap(spec =>
      spec.kind === 'rows' ? [[storeInDatabase(application, spec.name), spec.codec]] : [],
    )
}

interface StorePlace {
  readonly name: string
  readonly partition: number
  readonly identity: StoreIdentity
  readonly codec?: Codec<unknown>
}

function examineOne(
  database: Database,
  log: LogReport,
  { name, partition, identity, codec }: StorePlace,
): Promise<StoreReport> {
  const topic = changelogOf(name)
  const changelog = log.partitions.find(
    report => report.topic === topic && report.partition === partition,
  )
  return examineStore(database, {
    name,
    partition,
    kind: identity.kind,
    ...(codec && { codec }),
    changelogEnd: log.isThere ? (changelog?.endOffset ?? 0) : undefined,
    blockSizes: offsets => blockSizes(database, changelog?.id, offsets),
  })
}

async function blockSizes(
  database: Database,
  id: PartitionId | undefined,
  offsets: readonly number[],
): Promise<(number | null)[]> {
  if (id === undefined) return offsets.map(() => null)
  const found = await database.getMany(offsets.map(offset => batchKey(id, offset)))
  return found.map(bytes => bytes?.length ?? null)
}

/** Whether anything at all is wrong. */
export function isSound({ log, stores, problems }: Examination): boolean {
  const parts = [...log.partitions, ...stores]
  return problems.length === 0 && parts.every(part => part.problems.length === 0)
}
