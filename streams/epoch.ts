/**
 * One epoch's commit: what all stores, sinks and readers add to a single transaction, and the
 * cut that results. The order of an epoch is fixed: collect, run, seal, commit, apply, publish.
 */
import type {
  AppendReceipt,
  CommittedOffset,
  EventLog,
  GroupMember,
  TopicPartition,
} from '../log/port.ts'
import type { SealedEpoch, Store } from '../state/port.ts'
import type { Assembly } from './assembly.ts'
import { assert } from './errors.ts'
import type { Plan } from './plan.ts'
import { encodePosition, type Offsets, UNHEARD } from './position.ts'
import type { Task } from './task.ts'
import type { Positions } from './watermark.ts'

/** What the state after an epoch stands for. */
export interface CutDescription {
  readonly offsets: Offsets
  /** What a task here covers, by its name: `offsets` is the least of all. */
  readonly covered: (task: string) => Offsets
  readonly position: string
  /** Watermark of each view's step, by partition; partitions that are elsewhere are absent. */
  readonly watermarks: ReadonlyMap<string, ReadonlyMap<number, number>>
  /** All views show one cut of the input (law 17). */
  readonly consistent: boolean
}

export interface SealedCommit extends CutDescription {
  /** Makes the epoch durable; rejects having written nothing. */
  commit(): Promise<void>
}

export function describeCut(assembly: Assembly, log: EventLog): CutDescription {
  const { whole } = assembly
  const positions = whole ? undefined : assembly.positions()
  const offsets = coveredOffsets(assembly, positions)
  return {
    offsets,
    covered: coveredByTask(assembly.options.plan, positions, offsets),
    position: encodePosition({ incarnation: log.incarnation, offsets }),
    watermarks: viewWatermarks(assembly),
    consistent: whole,
  }
}

export interface SealOptions {
  readonly assembly: Assembly
  readonly log: EventLog
  readonly wallTimeMs: number
  /** Who the instance was to its group when the epoch began (law 2). */
  readonly member: GroupMember | undefined
}

/** Freezes everything the epoch changed. Synchronous: the next epoch may begin right after. */
export function sealEpoch({ assembly, log, wallTimeMs, member }: SealOptions): SealedCommit {
  if (assembly.options.remote) {
    let positions: ReadonlyMap<Task, Positions> | undefined
    assembly.router.tell(task => {
      positions ??= assembly.positions()
      return positions.get(task)!
    }, wallTimeMs)
  }
  for (const { eventTime } of assembly.parts) eventTime.save()
  const sealed = assembly.stores.map(store => store.seal(wallTimeMs))
  const written = assembly.sinks.take()
  const isQuiet = written.length === 0 && sealed.every(({ appends }) => appends.length === 0)
  const offsets = committedOffsets(assembly, isQuiet)
  const parts = { assembly, log, member, sealed, written, offsets }
  return { ...describeCut(assembly, log), commit: () => commit(parts) }
}

interface CommitParts {
  readonly assembly: Assembly
  readonly log: EventLog
  readonly member: GroupMember | undefined
  readonly sealed: readonly SealedEpoch[]
  readonly written: readonly { target: TopicPartition; batch: Buffer }[]
  readonly offsets: readonly CommittedOffset[]
}

async function commit(parts: CommitParts): Promise<void> {
  const { assembly, log, member, sealed, written, offsets } = parts
  const transaction = log.begin()
  for (const epoch of sealed) {
    for (const { target, batch } of epoch.appends) transaction.append(target, batch)
  }
  for (const { target, batch } of written) transaction.append(target, batch)
  const { application } = assembly.options.plan.topology
  await transaction.commit({
    group: application,
    ...(member === undefined ? {} : { member }),
    offsets,
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

/**
 * An offset of every partition read, moved or not, so that every task that wrote has one (law 2);
 * none where nothing was written and none has moved: an idle application commits nothing.
 */
function committedOffsets(assembly: Assembly, isQuiet: boolean): CommittedOffset[] {
  let moved = false
  for (const input of assembly.inputs) {
    if (input.position !== input.committedOffset) moved = true
    input.committedOffset = input.position
    input.coveredOffset = input.position
  }
  if (isQuiet && !moved) return []
  return assembly.inputs.map(({ positions, partition, position }) => {
    return { topic: positions, partition, offset: position, metadata: '' }
  })
}

/**
 * Next offset of each source partition that is in all of the tasks' state; null where no task
 * here depends on it. What an unfinished close still has to give is in nobody's (law 13).
 */
function coveredOffsets(
  assembly: Assembly,
  positions: ReadonlyMap<Task, Positions> | undefined,
): Offsets {
  const isClosing = assembly.closing.size > 0
  if (isClosing && positions === undefined && assembly.covered !== undefined) {
    return assembly.covered
  }
  const { plan } = assembly.options
  const least: (number | null)[] = plan.origins.map(() => null)
  const take = (index: number, offset: number) => {
    least[index] = Math.min(least[index] ?? offset, offset)
  }
  if (positions === undefined) {
    for (const { index, position } of assembly.sources) {
      take(index, isClosing ? UNHEARD : position)
    }
  } else {
    for (const each of positions.values()) for (const [index, offset] of each) take(index, offset)
  }
  const offsets = offsetsOf(plan, index => least[index])
  assembly.covered = offsets
  return offsets
}

/** The same task by task; where all of them run here, a commit covers all exchanges. */
function coveredByTask(
  plan: Plan,
  positions: ReadonlyMap<Task, Positions> | undefined,
  offsets: Offsets,
): (task: string) => Offsets {
  if (positions === undefined) return () => offsets
  const named = new Map([...positions].map(([{ name }, of]) => [name, of]))
  return task => offsetsOf(plan, index => named.get(task)!.get(index))
}

/** By topic, of the origins that have an offset. */
function offsetsOf(plan: Plan, of: (index: number) => number | null | undefined): Offsets {
  const offsets: Record<string, (number | null)[]> = {}
  plan.origins.forEach(({ topic, partition }, index) => {
    const offset = of(index)
    if (offset === null || offset === undefined) return
    const list = (offsets[topic] ??= [])
    while (list.length < partition) list.push(null)
    list[partition] = offset
  })
  return offsets
}

function viewWatermarks(assembly: Assembly): Map<string, ReadonlyMap<number, number>> {
  const watermarks = new Map<string, ReadonlyMap<number, number>>()
  for (const view of assembly.options.plan.topology.views) {
    const marks = new Map<number, number>()
    for (const task of assembly.tasks) {
      if (task.has(view.node)) marks.set(task.partition, task.runtime(view.node).closedMs)
    }
    watermarks.set(view.declaration.name, marks)
  }
  return watermarks
}

/** Every store forgets its sealed epoch: it is durable. */
export function applyEpoch(stores: readonly Store[]): void {
  for (const store of stores) store.applied()
}
