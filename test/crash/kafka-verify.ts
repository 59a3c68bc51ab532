/**
 * Compares all that came of a round with the oracle, and the instances with the log: view rows,
 * output topics and dead letters as kafkajs reads them, folded changelogs against the stores of
 * those who ran the tasks, and no transaction left open.
 */
import { isDeepStrictEqual } from 'node:util'
import { branchTopology } from '../../streams/branches.ts'
import { groupTopology } from '../../streams/group-topology.ts'
import { lineageOf } from '../../streams/lineage.ts'
import { type Plan, planTopology } from '../../streams/plan.ts'
import { changelogTopic, storesOf } from '../../streams/task-parts.ts'
import { type KafkaUnderTest, toolClasses } from '../support/kafka/kafka.ts'
import { type CommittedRecord, readCommitted } from '../support/kafka/read-committed.ts'
import {
  lines,
  PARTITIONS,
  type ShopPart,
  type ShopRecord,
  shopOracle,
  shopTopology,
} from '../support/shop.ts'
import type { InstanceProcess } from './instance-process.ts'

const INPUTS = ['orders', 'payments']
const OUTPUTS = ['finals', 'unpaid']

/** A shop, by the parts that each of its deployments had, all of which have read something. */
export interface DeployedShop {
  readonly prefix: string
  readonly deployments: readonly (readonly ShopPart[])[]
}

function planOf({ prefix, deployments }: DeployedShop): Plan {
  const inputs = INPUTS.map(topic => prefix + topic)
  const partitions = new Map(inputs.map(topic => [topic, PARTITIONS]))
  const facts = { topics: [] as string[], read: new Set<string>() }
  let plan: Plan | undefined
  for (const parts of deployments) {
    const topology = shopTopology(prefix, parts)
    const lineage = lineageOf({ topology, newState: 'beginning' }, facts)
    plan = planTopology(branchTopology(topology, lineage), partitions)
    for (const { changelogs, repartitionSources } of groupTopology(plan).subTopologies) {
      facts.topics.push(...[...changelogs, ...repartitionSources].map(({ name }) => name))
    }
    for (const topic of inputs) facts.read.add(topic)
    for (const { positions } of plan.sources) if (positions) facts.read.add(positions)
  }
  return plan!
}

/** The tasks and changelogs of a shop. */
export function shopPlan(shop: DeployedShop) {
  const plan = planOf(shop)
  const { application } = plan.topology
  const stores = plan.subTopologies.flatMap(sub =>
    storesOf(plan, sub).map(({ name, kind }) => {
      return { sub: sub.name, topic: changelogTopic(application, name), kind }
    }),
  )
  const tasks = plan.subTopologies.flatMap(sub =>
    Array.from({ length: sub.partitions }, (_, partition) => `${sub.name}/${partition}`),
  )
  return { tasks, stores }
}

/** Changelog partitions of tasks, as `topic/partition`. */
export function changelogsOf(shop: DeployedShop, tasks: readonly string[]): string[] {
  const { stores } = shopPlan(shop)
  return tasks.flatMap(task => {
    const [sub, partition] = task.split('/')
    return stores.filter(store => store.sub === sub).map(({ topic }) => `${topic}/${partition}`)
  })
}

export interface VerifyOptions extends DeployedShop {
  readonly kafka: KafkaUnderTest
  readonly records: readonly ShopRecord[]
  readonly instances: readonly InstanceProcess[]
}

/** Waits until the views of all instances together are the oracle's; what differs when not. */
export async function verifyViews(
  { records, instances }: VerifyOptions,
  waitMsMax: number,
): Promise<readonly string[]> {
  const { volume, revenue } = shopOracle(records)
  const untilMs = Date.now() + waitMsMax
  for (;;) {
    const answers = await Promise.all(instances.map(one => one.ask({ do: 'rows' }, 'rows')))
    const found = (view: string) => lines(answers.flatMap(answer => answer?.rows[view] ?? []))
    const differences = [
      ...answers.flatMap(answer => answer?.error ?? []),
      ...differencesOf('view volume', volume, found('volume')),
      ...differencesOf('view revenue', revenue, found('revenue')),
    ]
    if (differences.length === 0 || Date.now() > untilMs) return differences
    await new Promise(resolve => setTimeout(resolve, 300))
  }
}

/**
 * Waits until the outputs are the oracle's: what closes behind an exchange does so when the task
 * before it has told how far it is, which may be after the views are right. Resolves with how long
 * that took, ms.
 */
export async function outputsAreDone(
  { kafka, prefix, records }: VerifyOptions,
  waitMsMax: number,
): Promise<number> {
  const oracle = shopOracle(records)
  const topics = OUTPUTS.map(topic => prefix + topic)
  const startedMs = Date.now()
  for (;;) {
    const read = await readCommitted(kafka.bootstrap, topics)
    const isDone = OUTPUTS.every(topic =>
      isDeepStrictEqual(oracle[topic as 'finals' | 'unpaid'], written(read.get(prefix + topic)!)),
    )
    const waitedMs = Date.now() - startedMs
    if (isDone || waitedMs > waitMsMax) return waitedMs
    await new Promise(resolve => setTimeout(resolve, 1000))
  }
}

const written = (records: readonly CommittedRecord[]) =>
  records
    .map(({ key, value }) => `${key}=${value}`)
    .filter(line => !line.startsWith('end'))
    .sort()

/** Stops the instances, which tell their stores, and compares these and all topics. */
export async function verifyRest(options: VerifyOptions): Promise<readonly string[]> {
  const { kafka, prefix, records, instances } = options
  const changelogs = shopPlan(options).stores
  const dumps = await Promise.all(
    instances.map(one => one.ask({ do: 'stop', leave: false, dump: true }, 'dump', 30_000)),
  )
  for (const one of instances) {
    const ended = await one.untilEnded(15_000)
    if (ended?.code !== 0) return [`${one.name} did not stop: ${one.output.slice(-500)}`]
  }
  const letters = `${prefix}shop-dead-letters`
  const topics = [...INPUTS, ...OUTPUTS].map(topic => prefix + topic)
  const names = [...topics, letters, ...changelogs.map(({ topic }) => topic)]
  const read = await readCommitted(kafka.bootstrap, names)
  const oracle = shopOracle(records)
  const told: Stores = Object.assign({}, ...dumps.map(dump => dump?.stores ?? {}))
  const rowTopics = changelogs.filter(({ kind }) => kind === 'rows')
  return [
    ...INPUTS.flatMap(topic => inputDifferences(topic, records, read.get(prefix + topic)!)),
    ...OUTPUTS.flatMap(topic =>
      differencesOf(
        `topic ${topic}`,
        oracle[topic as 'finals' | 'unpaid'],
        written(read.get(prefix + topic)!),
      ),
    ),
    ...unequal('dead letters', oracle.late, read.get(letters)!.length),
    ...rowTopics.flatMap(({ topic }) => storeDifferences(topic, told, read.get(topic)!)),
    ...(await openTransactions(kafka, prefix)),
  ]
}

type Stores = Readonly<Record<string, Readonly<Record<string, string>>>>

function storeDifferences(
  topic: string,
  stores: Stores,
  records: readonly CommittedRecord[],
): string[] {
  const folded = Array.from({ length: PARTITIONS }, () => new Map<string, string>())
  for (const { partition, key, value } of records) {
    if (value === null) folded[partition]!.delete(key!.latin1Slice())
    else folded[partition]!.set(key!.latin1Slice(), value.latin1Slice())
  }
  return folded.flatMap((rows, partition) => {
    const name = `${topic}/${partition}`
    const stored = stores[name]
    if (stored === undefined) return [`nobody told the store of ${name}`]
    if (isDeepStrictEqual(new Map(Object.entries(stored)), rows)) return []
    const differing = [...rows].filter(([key, value]) => stored[key] !== value)
    const counts = `${Object.keys(stored).length} rows, ${rows.size} in the changelog`
    return [
      `the store of ${name} differs from its changelog: ${counts}, ${differing.length} differ`,
    ]
  })
}

/** The feed is not what is tested, but everything stands on it. */
function inputDifferences(
  topic: string,
  records: readonly ShopRecord[],
  read: readonly CommittedRecord[],
): string[] {
  return Array.from({ length: PARTITIONS }, (_, partition) => {
    const sent = records.filter(one => one.topic === topic && one.partition === partition)
    const keys = read.filter(one => one.partition === partition).map(({ key }) => String(key))
    const same = isDeepStrictEqual(
      keys,
      sent.map(({ key }) => key),
    )
    return same ? [] : [`input ${topic}-${partition}: ${keys.length} records, ${sent.length} sent`]
  }).flat()
}

function unequal(what: string, wanted: unknown, found: unknown): string[] {
  return isDeepStrictEqual(wanted, found) ? [] : [`${what}: ${found}, should be ${wanted}`]
}

/** Sorted lines of each, with what is missing and what is too much. */
function differencesOf(
  what: string,
  wanted: readonly string[],
  found: readonly string[],
): string[] {
  if (isDeepStrictEqual(wanted, found)) return []
  const left = [...found]
  const missing = wanted.filter(line => {
    const at = left.indexOf(line)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
  const some = (lines: readonly string[]) => `${lines.length} (${lines.slice(0, 5).join(' ')})`
  return [`${what}: missing ${some(missing)}, too many ${some(left)}`]
}

/** By Kafka's own tool; one of a process that is gone ends by its timeout. */
async function openTransactions(kafka: KafkaUnderTest, prefix: string): Promise<string[]> {
  const untilMs = Date.now() + 20_000
  for (;;) {
    const args = ['--bootstrap-server', kafka.bootstrap, 'list']
    const { stdout, stderr, code } = await kafka.tool(toolClasses.transactions, args)
    if (code !== 0) return [`the list of transactions: ${stderr}`]
    const open = stdout
      .split('\n')
      .filter(line => line.startsWith(prefix) && !/\b(Empty|Complete\w+)\b/.test(line))
    if (open.length === 0) return []
    if (Date.now() > untilMs) return open.map(line => `open transaction: ${line}`)
  }
}
