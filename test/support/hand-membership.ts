/** A membership in a test's hand: nothing of it changes by itself. */
import {
  type Assignment,
  type Membership,
  type MembershipStatus,
  noTasks,
} from '../../log/membership.ts'

export class HandMembership implements Membership {
  readonly memberId = 'by-hand'
  epoch = 1
  target: Assignment | undefined
  settling = false
  alive = true
  readonly endpoints = []
  status: MembershipStatus = {
    state: 'stable',
    detail: 'a member by hand',
    sinceMs: 0,
    error: undefined,
    shutdownRequested: false,
  }
  /** What the engine said it holds, in order. */
  readonly owned: Assignment[] = []
  settledCalls = 0
  readonly #listeners = new Set<() => void>()

  constructor(active: Assignment['active']) {
    this.target = { ...noTasks, active }
  }

  /** Changes what the group says, and tells it. */
  change(
    changes: Partial<Pick<HandMembership, 'target' | 'epoch' | 'settling' | 'alive' | 'status'>>,
  ): void {
    Object.assign(this, changes)
    for (const listener of [...this.#listeners]) listener()
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  own(owned: Assignment): void {
    this.owned.push(owned)
  }

  settled(): void {
    this.settledCalls++
  }

  confirm(): void {}

  requestShutdown(): void {}

  async leave(): Promise<void> {}
}
