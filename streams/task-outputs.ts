/** What an operator gives out in one call, and what becomes of the records that it takes out. */
import type { Batch } from './batch.ts'
import type { FailureContext, Outputs, SideReason } from './operator.ts'
import type { NodeRuntime, Task } from './task.ts'

export class TaskOutputs implements Outputs {
  main: Batch | undefined
  sides: Map<SideReason, Batch> | undefined
  readonly #task: Task
  readonly #runtime: NodeRuntime

  constructor(task: Task, runtime: NodeRuntime) {
    this.#task = task
    this.#runtime = runtime
  }

  /** Marks results of a replayed record that is still on its way to its step. */
  aim(target: string): void {
    const left = this.#task.isFor(this.#runtime.node, target) ? undefined : target
    if (this.main !== undefined) this.main.target = left
    for (const side of this.sides?.values() ?? []) side.target = left
  }

  drop(batch: Batch, index: number, reason: SideReason, detail = ''): void {
    this.#task.drop(this.#runtime, { batch, index, reason, detail })
    this.#side(batch, index, reason)
  }

  dropPart(batch: Batch, index: number, reason: SideReason, detail: string): void {
    this.#task.drop(this.#runtime, { batch, index, reason, detail, isPart: true })
    this.#side(batch, index, reason)
  }

  fail(batch: Batch, index: number, error: unknown, about?: FailureContext): void {
    const reason = this.#task.fail(this.#runtime, { batch, index, error }, about)
    this.#side(batch, index, reason)
  }

  #side(batch: Batch, index: number, reason: SideReason): void {
    if (!this.#runtime.children.has(reason)) return
    this.sides ??= new Map()
    let side = this.sides.get(reason)
    if (side === undefined) {
      side = batch.successor({ keys: true, values: true })
      this.sides.set(reason, side)
    }
    side.keep(batch, index)
  }
}
