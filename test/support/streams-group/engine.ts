/**
 * An engine as the port wants it, reduced to what matters to a group: it takes and gives up
 * tasks, and its transactions raise the version of each task they touch. What it knows of a task
 * is the version it read when it took it; a commit on top of another version is a lost update.
 */
import { type Assignment, type Membership, noTasks, type TaskIds } from '../../../log/membership.ts'
import type { SimulatedCoordinator } from './coordinator.ts'
import type { SimulatedProcess } from './time.ts'

interface Task {
  readonly name: string
  readonly role: 'active' | 'standby'
  readonly partition: number
  /** Undefined while it is restored. */
  version: number | undefined
  leaving: boolean
}

interface Transaction {
  readonly epoch: number
  readonly tasks: readonly Task[]
  aborted: boolean
}

export interface EngineOptions {
  readonly process: SimulatedProcess
  readonly coordinator: SimulatedCoordinator
  readonly membership: Membership
  /** Without it a commit is tried even when the session may have run out: the broker decides. */
  readonly heedsAlive: boolean
  readonly onLostUpdate: (sentence: string) => void
}

export class SimulatedEngine {
  commits = 0
  readonly #options: EngineOptions
  #tasks = new Map<string, Task>()
  #transaction: Transaction | undefined
  #reactionPlanned = false
  /** Counts drops: work begun before one means nothing after it. */
  #life = 0

  constructor(options: EngineOptions) {
    this.#options = options
    options.membership.onChange(() => this.#planReaction())
    void this.#run()
  }

  /** Partitions that it may commit for. */
  get running(): number[] {
    return this.#runningTasks().map(task => task.partition)
  }

  get owned(): Assignment {
    const of = (role: Task['role']): TaskIds => {
      const partitions = [...this.#tasks.values()]
        .filter(task => task.role === role)
        .map(task => task.partition)
        .sort((a, b) => a - b)
      return partitions.length === 0 ? {} : { s: partitions }
    }
    return { active: of('active'), standby: of('standby'), warmup: {} }
  }

  #runningTasks(): Task[] {
    return [...this.#tasks.values()].filter(
      task => task.role === 'active' && task.version !== undefined && !task.leaving,
    )
  }

  #planReaction(): void {
    if (this.#reactionPlanned) return
    this.#reactionPlanned = true
    const { process } = this.#options
    void process.after(process.time.between(0, 50), () => {
      this.#reactionPlanned = false
      this.#react()
    })
  }

  #react(): void {
    const { membership } = this.#options
    const { target } = membership
    if (membership.settling && this.#transaction === undefined) membership.settled()
    if (target === undefined) {
      if (this.#transaction !== undefined) this.#transaction.aborted = true
      this.#tasks = new Map()
      this.#life++
      this.#sayDropped(this.#life)
      return
    }
    this.#giveUp(target)
    this.#take(target)
  }

  /** Once its transaction has an outcome. */
  #sayDropped(life: number): void {
    const { process, membership } = this.#options
    void process.after(process.time.between(0, 200), () => {
      if (life !== this.#life || membership.target !== undefined) return
      if (this.#transaction === undefined) membership.own(noTasks)
      else this.#sayDropped(life)
    })
  }

  #giveUp(target: Assignment): void {
    const wanted = new Set(names(target))
    let gone = false
    for (const task of this.#tasks.values()) {
      if (wanted.has(task.name)) continue
      task.leaving = true
      if (this.#transaction?.tasks.includes(task)) continue
      this.#tasks.delete(task.name)
      gone = true
    }
    if (gone) this.#options.membership.own(this.owned)
  }

  #take(target: Assignment): void {
    const { process, coordinator, membership } = this.#options
    const life = this.#life
    const added = names(target).filter(name => !this.#tasks.has(name))
    for (const name of added) {
      const [role, partition] = name.split('/') as [Task['role'], string]
      const task: Task = {
        name,
        role,
        partition: Number(partition),
        version: undefined,
        leaving: false,
      }
      this.#tasks.set(name, task)
      void process.after(process.time.between(0, 300), () => {
        const isMine = life === this.#life && this.#tasks.get(name) === task
        if (isMine) task.version = coordinator.versions[task.partition]
      })
    }
    if (added.length > 0) membership.own(this.owned)
  }

  async #run(): Promise<void> {
    const { process, membership, heedsAlive } = this.#options
    const { time } = process
    for (;;) {
      await process.after(time.between(10, 150), () => {})
      const tasks = this.#runningTasks().filter(() => time.chance(0.7))
      const mayBegin = membership.target !== undefined && !membership.settling
      if (tasks.length === 0 || !mayBegin || (heedsAlive && !membership.alive)) {
        this.#planReaction()
        continue
      }
      const transaction = { epoch: membership.epoch, tasks, aborted: false }
      this.#transaction = transaction
      await process.after(time.between(5, 400), () => {})
      await this.#commit(transaction)
      this.#transaction = undefined
      this.#planReaction()
    }
  }

  async #commit(transaction: Transaction): Promise<void> {
    const { process, membership, coordinator, heedsAlive } = this.#options
    if (transaction.aborted || (heedsAlive && !membership.alive)) return
    const partitions = transaction.tasks.map(task => task.partition)
    // The request may be on its way while anything happens here.
    const accepted = await process.time.after(process.time.between(1, 30), () => {
      const before = partitions.map(partition => coordinator.versions[partition]!)
      // A later process of the same id has fenced this one's producer.
      if (process.dead) return false
      const taken = coordinator.commit(membership.memberId, transaction.epoch, partitions)
      if (taken) this.#check(transaction, before)
      return taken
    })
    if (!accepted) return membership.confirm()
    this.commits++
    for (const task of transaction.tasks) task.version!++
  }

  #check({ tasks, epoch }: Transaction, versions: readonly number[]): void {
    tasks.forEach((task, i) => {
      if (task.version === versions[i]) return
      this.#options.onLostUpdate(
        `${this.#options.membership.memberId} committed ${task.name} at epoch ${epoch} on top of version ${task.version}, the log has ${versions[i]}`,
      )
    })
  }
}

function names(assignment: Assignment): string[] {
  const of = (role: Task['role']) => (assignment[role].s ?? []).map(p => `${role}/${p}`)
  return [...of('active'), ...of('standby')]
}
