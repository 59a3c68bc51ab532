/**
 * The three accounts of a member's tasks, and what is left to do between them: what the group
 * assigned, what the engine says it holds, and what the group has heard of that.
 */
import { type Assignment, noTasks } from '../membership.ts'
import { hasTasks, isSameAssignment, isWithin, taskNames, withoutTasks } from '../task-ids.ts'

export class MemberTasks {
  #assigned: Assignment | undefined
  #target: Assignment | undefined
  #owned: Assignment = noTasks
  /** Undefined: the group has to hear the owned tasks, whether or not they changed. */
  #reported: Assignment | undefined = noTasks
  #dropping = false
  /**
   * Names of tasks that left the target while the engine held them. When the group gives one
   * back (after a rejoin it need not wait for the engine), others may have worked on it, so the
   * engine is to give it up first.
   */
  readonly #leaving = new Set<string>()

  /** What the engine is to hold; undefined while it has to give up everything. */
  get target(): Assignment | undefined {
    return this.#target
  }

  get dropping(): boolean {
    return this.#dropping
  }

  /** The engine still holds tasks that are no longer assigned. */
  get isLeaving(): boolean {
    return this.#leaving.size > 0
  }

  get isIdle(): boolean {
    return !hasTasks(this.#owned) && !hasTasks(this.#target ?? noTasks)
  }

  /** What the next heartbeat says of the owned tasks; null when the group knows. */
  get report(): Assignment | null {
    const reported = this.#reported
    const known = reported !== undefined && isSameAssignment(reported, this.#owned)
    return known ? null : this.#owned
  }

  /** The group is waiting to hear that tasks were given up, and they have been. */
  get isReportDue(): boolean {
    if (this.#reported !== undefined) return !isWithin(this.#reported, this.#owned)
    return isWithin(this.#owned, this.#assigned ?? noTasks)
  }

  reported(owned: Assignment): void {
    this.#reported = owned
  }

  assign(assignment: Assignment): void {
    // Also what the engine had not begun has to be acknowledged.
    if (!isWithin(this.#assigned ?? noTasks, assignment)) this.#reported = undefined
    this.#assigned = assignment
    const names = new Set(taskNames(assignment))
    for (const name of taskNames(this.#owned)) if (!names.has(name)) this.#leaving.add(name)
    this.#aim()
  }

  /** True when this changed anything. */
  own(owned: Assignment): boolean {
    if (this.#dropping) {
      if (hasTasks(owned)) return false
      this.#dropping = false
      this.#aim()
      return true
    }
    if (isSameAssignment(owned, this.#owned)) return false
    this.#owned = owned
    const names = new Set(taskNames(owned))
    for (const name of this.#leaving) if (!names.has(name)) this.#leaving.delete(name)
    this.#aim()
    return true
  }

  /** The engine has to give up all it holds or begins before it gets anything. */
  drop(): void {
    if (this.#target !== undefined) this.#dropping = true
    this.#assigned = this.#target = undefined
    this.#owned = this.#reported = noTasks
    this.#leaving.clear()
  }

  #aim(): void {
    if (this.#dropping || this.#assigned === undefined) return
    const target = withoutTasks(this.#assigned, this.#leaving)
    if (this.#target === undefined || !isSameAssignment(target, this.#target)) this.#target = target
  }
}
