/**
 * What of a damaged data folder is kept. A partition is cut where its readable prefix ends. State
 * follows from the log, so it is built anew where it may know more than the log:
 *
 *     damaged                                   what happens
 *     rows of a store                           the store is restored from its changelog
 *     a changelog                               its application begins anew at the input's start
 *     input beyond what an application has read nothing else: it never saw what is cut
 *     input that an application has read        it begins anew at the input's start
 *     the list of topics, offsets or stores     every application begins anew
 */

import { isInputTopic } from '../contracts/topics.ts'
import type { ExaminedTopic, LogReport, PartitionReport } from '../log/embedded/examine.ts'
import { isPositionsTopic } from '../streams/branches.ts'
import type { Topology } from '../streams/topology.ts'
import { applicationOf, changelogOf, type Examination } from './examination.ts'

export interface Cut {
  readonly report: PartitionReport
  /** The first offset that is not kept. */
  readonly from: number
}

export interface StorePartition {
  readonly store: string
  readonly partition: number
}

export interface SalvagePlan {
  readonly topics: readonly ExaminedTopic[]
  /** Partitions that are not kept whole. */
  readonly cuts: readonly Cut[]
  /** Applications whose state is dropped, and why. */
  readonly resets: ReadonlyMap<string, string>
  /** Stores that are restored from their changelogs. */
  readonly restored: readonly StorePartition[]
  /** Result topics of such an application, which writes them anew: events are no results. */
  readonly emptied: ReadonlySet<string>
}

export function planSalvage(
  examination: Examination,
  topologies: readonly Topology[],
): SalvagePlan {
  const { log, stores } = examination
  const cuts = log.partitions
    .filter(({ soundTo, endOffset }) => soundTo < endOffset)
    .map(report => ({ report, from: report.soundTo }))
  const resets = new Map<string, string>()
  for (const application of applicationsOf(examination)) {
    const reason = resetReason(application, examination, cuts)
    if (reason !== undefined) resets.set(application, reason)
  }
  const restored = stores
    .filter(({ store, problems }) => problems.length > 0 && !resets.has(applicationOf(store)))
    .map(({ store, partition }) => ({ store, partition }))
  const emptied = new Set<string>()
  for (const { application, nodes } of topologies) {
    if (!resets.has(application)) continue
    for (const node of nodes) {
      if (node.kind === 'sink' && !isInputTopic(node.topic)) emptied.add(node.topic)
    }
  }
  return { topics: log.topics, cuts, resets, restored, emptied }
}

function applicationsOf({ fingerprint, log }: Examination): Set<string> {
  const applications = new Set([...fingerprint.keys()].map(applicationOf))
  for (const { name } of log.topics) {
    const match = /^(.+)-event-time\..*-changelog$/.exec(name)
    if (match?.[1] !== undefined) applications.add(match[1])
  }
  return applications
}

/** Topics that an application makes for itself: with its state they are built anew. */
export function isInternalTopic(application: string, topic: string): boolean {
  return topic.startsWith(`${application}-`) && internal.test(topic)
}

const internal = /-(changelog|repartition|positions|dead-letters|dead-letter-states)$/

function resetReason(
  application: string,
  { log, stores, fingerprint, fingerprintWhole }: Examination,
  cuts: readonly Cut[],
): string | undefined {
  if (!log.topicsWhole) return 'the list of topics is damaged'
  if (!log.groupsWhole) return 'committed offsets are damaged'
  if (!fingerprintWhole) return 'the record of the stores is damaged'
  const changelogs = new Set([...fingerprint.keys()].map(changelogOf))
  const own = (topic: string) => isInternalTopic(application, topic) && changelogs.has(topic)
  const damaged = log.partitions.find(({ topic, problems }) => own(topic) && problems.length > 0)
  if (damaged !== undefined) return `${damaged.topic}-${damaged.partition} is damaged`
  for (const { report, from } of cuts) {
    const committed = Math.max(...readsOf(log, application, report))
    if (committed <= from) continue
    return `it has read ${report.topic}-${report.partition} to ${committed}, which is cut at ${from}`
  }
  const lost = stores.find(
    ({ store, problems, changelogShort }) =>
      applicationOf(store) === application &&
      (changelogShort ||
        (problems.length > 0 && !log.topics.some(({ name }) => name === changelogOf(store)))),
  )
  return lost && `the changelog of ${lost.store} does not hold all of it`
}

/** How far the branches of an application have read a partition of the input. */
function readsOf(log: LogReport, application: string, report: PartitionReport): number[] {
  const places = log.partitions.filter(
    ({ topic, partition }) =>
      partition === report.partition &&
      (topic === report.topic || isPositionsTopic(topic, application, report.topic)),
  )
  return places.flatMap(({ id }) =>
    log.groups
      .filter(
        ({ group, id: own }) =>
          group === application && own.topic === id.topic && own.partition === id.partition,
      )
      .map(({ offset }) => offset),
  )
}
