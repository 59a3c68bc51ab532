/** What becomes of records that cannot be processed: tried again, or put aside. */
import type { Assembly } from './assembly.ts'
import { NO_SOURCE } from './batch.ts'
import { DeadLetters } from './dead-letters.ts'
import type { EngineSettings } from './environment.ts'
import type { SideReason } from './operator.ts'
import { Retries } from './retries.ts'
import type { Refusals } from './source-partition.ts'
import type { DroppedRecord, FailedRecord } from './task.ts'
import type { TopologyNode } from './topology.ts'

/** What tasks and the partitions they read are given. */
export interface FailureHandlers {
  readonly retries: Retries
  /** Gives the number of attempts. Throws RetryLater when the record is to be tried again. */
  readonly onFailure: (record: FailedRecord) => number
  /** Whether what leaves by the reason is a dead letter; `claimed`: a side output takes it. */
  readonly keeps: (reason: SideReason, claimed: boolean) => boolean
  /** Such a record. */
  readonly onDrop: (record: DroppedRecord) => void
  readonly refusals: Refusals
}

export interface FailuresOptions {
  readonly application: string
  readonly clock: () => number
  readonly settings: EngineSettings
}

export class Failures {
  readonly retries: Retries
  readonly deadLetters: DeadLetters
  readonly #settings: EngineSettings

  constructor({ application, clock, settings }: FailuresOptions) {
    this.retries = new Retries(clock)
    this.deadLetters = new DeadLetters({ application, clock, reasons: settings.deadLetters })
    this.#settings = settings
  }

  handlers(assembly: () => Assembly): FailureHandlers {
    const { retries, deadLetters } = this
    return {
      retries,
      onFailure: record => this.#failed(record),
      keeps: (reason, claimed) => deadLetters.keeps(reason, claimed),
      onDrop: record => deadLetters.drop(assembly(), record),
      refusals: {
        failed: ({ node }, failure) => retries.failed({ ...failure, ...this.#policyOf(node) }),
        reject: (source, record) => deadLetters.reject(assembly(), source, record),
        rejectBatch: (source, batch) => deadLetters.rejectBatch(assembly(), source, batch),
      },
    }
  }

  #policyOf(node: TopologyNode) {
    return { step: node.name, policy: node.retry ?? this.#settings.retry }
  }

  #failed({ node, batch, index, error }: FailedRecord): number {
    // No partition stands at a record that has waited in a store.
    const source = batch.isReleased(index) ? NO_SOURCE : batch.sources[index]!
    const origin = { source, offset: batch.offsets[index]!, key: batch.keys[index] }
    const timeMs = batch.times[index]!
    return this.retries.failed({ ...this.#policyOf(node), ...origin, timeMs, error })
  }

  /** To be called once the epoch being sealed is committed. */
  seal(): () => void {
    const written = this.deadLetters.seal()
    const settled = this.retries.seal()
    return () => {
      written()
      settled()
    }
  }

  /** The epochs under way are dropped. */
  rewind(): void {
    this.retries.rewind()
    this.deadLetters.rewind()
  }
}
