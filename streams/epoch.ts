/**
 * One epoch's commit: what all stores, sinks and readers add to a single transaction, and the
 * cut that results. The order of an epoch is fixed: collect, run, seal, commit, apply, publish.
 */
import type { AppendReceipt, CommittedOffset, EventLog, TopicPartition } from '../log/port.ts'
import type { SealedEpoch, Store } from '../state/port.ts'
import type { Assembly } from './assembly.ts'
import { assert } from './errors.ts'
import { encodePosition, type Offsets } from './position.ts'

/** What the state after an epoch stands for. */
export interface CutDescription {
  readonly offsets: Offsets
  readonly position: string
  /** Watermark of each view's step by partition. */
  readonly watermarks: ReadonlyMap<string, readonly number[]>
}

export interface SealedCommit extends CutDescription {
  /** Makes the epoch durable; rejects having written nothing. */
  commit(): Promise<void>
}

export function describeCut(assembly: Assembly, log: EventLog): CutDescription {
  const offsets = sourceOffsets(assembly)
  return {
    offsets,
    position: encodePosition({ incarnation: log.incarnation, offsets }),
    watermarks: viewWatermarks(assembly),
  }
}

/** Freezes everything the epoch changed. Synchronous: the next epoch may begin right after. */
export function sealEpoch(assembly: Assembly, log: EventLog, wallTimeMs: number): SealedCommit {
  for (const eventTime of assembly.eventTimes) eventTime.save()
  const sealed = assembly.stores.map(store => store.seal(wallTimeMs))
  const written = assembly.sinks.take()
  const cut = describeCut(assembly, log)
  return { ...cut, commit: () => commit({ assembly, log, sealed, written, offsets: cut.offsets }) }
}

interface CommitParts {
  readonly assembly: Assembly
  readonly log: EventLog
  readonly sealed: readonly SealedEpoch[]
  readonly written: readonly { target: TopicPartition; batch: Buffer }[]
  readonly offsets: Offsets
}

async function commit({ assembly, log, sealed, written, offsets }: CommitParts): Promise<void> {
  const transaction = log.begin()
  for (const epoch of sealed) {
    for (const { target, batch } of epoch.appends) transaction.append(target, batch)
  }
  for (const { target, batch } of written) transaction.append(target, batch)
  const { application } = assembly.options.plan.topology
  await transaction.commit({
    group: application,
    offsets: committedOffsets(offsets),
    state(receipts, batch) {
      let next = 0
      for (const epoch of sealed) {
        const mine: readonly AppendReceipt[] = receipts.slice(next, next + epoch.appends.length)
        next += epoch.appends.length
        epoch.write(mine, batch)
      }
      assert(next + written.length === receipts.length, 'every append has its receipt')
    },
  })
}

function sourceOffsets(assembly: Assembly): Offsets {
  const offsets: Record<string, number[]> = {}
  for (const source of assembly.sources) {
    const list = (offsets[source.topic] ??= [])
    list[source.partition] = source.position
  }
  return offsets
}

function committedOffsets(offsets: Offsets): CommittedOffset[] {
  return Object.entries(offsets).flatMap(([topic, list]) =>
    list.map((offset, partition) => ({ topic, partition, offset, metadata: '' })),
  )
}

function viewWatermarks(assembly: Assembly): ReadonlyMap<string, readonly number[]> {
  const watermarks = new Map<string, number[]>()
  for (const view of assembly.options.plan.topology.views) {
    const tasks = assembly.tasks.filter(task => task.has(view.node))
    watermarks.set(
      view.declaration.name,
      tasks.map(task => task.runtime(view.node).closedMs),
    )
  }
  return watermarks
}

/** Every store forgets its sealed epoch: it is durable. */
export function applyEpoch(stores: readonly Store[]): void {
  for (const store of stores) store.applied()
}
