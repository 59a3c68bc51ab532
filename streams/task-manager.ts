/**
 * Which tasks this instance holds. Without a membership these are all tasks of the plan, opened
 * before anything runs. With one, the group decides: tasks are opened beside the running ones,
 * join them at an epoch boundary, and are given up at one (laws 3, 15). Standbys keep copies of
 * the state of tasks that run elsewhere.
 */
import type { Database } from '../log/database.ts'
import { type Assignment, type Membership, noTasks, type TaskIds } from '../log/membership.ts'
import type { EventLog } from '../log/port.ts'
import { Assembly } from './assembly.ts'
import type { EngineEnvironment, EngineSettings } from './environment.ts'
import { isFinal } from './errors.ts'
import type { FailureHandlers } from './failures.ts'
import type { Plan } from './plan.ts'
import { runningDetails } from './progress.ts'
import { Standby } from './standby.ts'
import { openTask, type TaskId, type TaskParts, taskName } from './task-parts.ts'
import type { TopicLimits } from './topic-limits.ts'
import { Turns } from './turns.ts'
import type { TaskStatus } from './views.ts'

export interface TaskManagerOptions extends FailureHandlers {
  readonly plan: Plan
  readonly log: EventLog
  readonly database: Database
  readonly environment: EngineEnvironment
  readonly settings: EngineSettings
  readonly membership: Membership | undefined
  readonly topicPartitions: ReadonlyMap<string, number>
  readonly lettersTopicId: string
  readonly limits: TopicLimits
  /** Counts what is read from changelogs, for tasks and standbys, by the name of their store. */
  readonly restoredBytes: Map<string, number>
  /** Something is to be done at the next epoch boundary. */
  readonly onDue: () => void
  /** A task could not be opened. */
  readonly onRefused: (error: unknown) => void
}

/** Changelogs read at the same time, for tasks and for standbys: each may hold some MB. */
const RESTORES_MAX = 8
const FOLLOWS_MAX = 4
const REOPEN_MS = 1000

interface Opening {
  readonly id: TaskId
  readonly abort: AbortController
  done: Promise<void>
  detail: string
  parts?: TaskParts
  error?: unknown
}

interface Refused {
  readonly detail: string
  due: boolean
}

export class TaskManager {
  readonly assembly: Assembly
  readonly #options: TaskManagerOptions
  readonly #opening = new Map<string, Opening>()
  readonly #standbys = new Map<string, Standby>()
  readonly #restores = new Turns(RESTORES_MAX)
  readonly #follows = new Turns(FOLLOWS_MAX)
  /** Tasks that could not be opened, until they are tried again. */
  readonly #refused = new Map<string, Refused>()
  #reported = ''
  #owned: Assignment = noTasks
  #due = true

  constructor(options: TaskManagerOptions) {
    this.#options = options
    const { watermarkIntervalMs } = options.settings
    const remote = options.membership !== undefined
    const { tracing } = options.environment
    this.assembly = new Assembly({ ...options, remote, watermarkIntervalMs, tracing })
  }

  /** True when `reconcile` has something to do. */
  get due(): boolean {
    return this.#due
  }

  /** Every task that the instance should run is running. */
  get complete(): boolean {
    const target = this.#options.membership?.target
    if (target === undefined) return false
    return this.#tasks(target.active).every(([name]) => this.assembly.task(name) !== undefined)
  }

  wake(): void {
    this.#due = true
    this.#options.onDue()
  }

  statuses(): TaskStatus[] {
    const detailOf = runningDetails(this.assembly)
    const running = this.assembly.tasks.map(task => {
      return { task: task.name, state: 'running', detail: detailOf(task) } as const
    })
    const opening = [...this.#refused, ...this.#opening].map(([task, { detail }]) => {
      return { task, state: 'restoring', detail } as const
    })
    const standbys = [...this.#standbys].map(([task, { detail }]) => {
      return { task, state: 'standby', detail } as const
    })
    return [...running, ...opening, ...standbys]
  }

  /** Opens all tasks of the plan, one after the other, and runs them: there is no group. */
  async takeAll(onProgress: (detail: string) => void): Promise<void> {
    this.#due = false
    for (const id of tasksOf(this.#options.plan)) {
      this.assembly.attach(await this.#open(id, onProgress))
    }
  }

  /**
   * Does what the group says, as far as it can be done now. To be called at an epoch boundary
   * with nothing in flight. True when the running tasks are others than before.
   */
  async reconcile(): Promise<boolean> {
    this.#due = false
    const membership = this.#options.membership!
    const { target } = membership
    if (target === undefined) return this.#giveUpAll()
    const wanted = new Map(this.#tasks(target.active))
    const copies = new Map([...this.#tasks(target.standby), ...this.#tasks(target.warmup)])
    const gone = this.assembly.tasks.filter(task => !wanted.has(task.name))
    for (const task of gone) this.assembly.detach(task)
    for (const name of this.#refused.keys()) if (!wanted.has(name)) this.#refused.delete(name)
    await this.#closeOpening(name => !wanted.has(name))
    if (gone.length > 0) this.#options.environment.reached?.('revoke-mid')
    await this.#closeStandbys(name => !copies.has(name), wanted)
    for (const [name, id] of wanted) {
      const isHere = this.assembly.task(name) !== undefined || this.#opening.has(name)
      if (!isHere && this.#refused.get(name)?.due !== false) this.#take(name, id)
    }
    for (const [name, id] of copies) if (!this.#standbys.has(name)) this.#follow(name, id)
    this.#own(target)
    const joined = this.#attachOpened()
    return joined || gone.length > 0
  }

  async #giveUpAll(): Promise<boolean> {
    const { tasks } = this.assembly
    for (const task of tasks) this.assembly.detach(task)
    this.#refused.clear()
    await this.#closeOpening(() => true)
    await this.#closeStandbys(() => true)
    this.#owned = noTasks
    this.#options.membership!.own(noTasks)
    return tasks.length > 0
  }

  #own(owned: Assignment): void {
    if (this.#owned === owned) return
    this.#owned = owned
    this.#options.membership!.own(owned)
  }

  #attachOpened(): boolean {
    let joined = false
    for (const [name, opening] of this.#opening) {
      if (opening.error !== undefined) {
        this.#opening.delete(name)
        const { error } = opening
        if (isFinal(error)) throw error
        this.#refuse(name, error)
      } else if (opening.parts !== undefined) {
        this.#opening.delete(name)
        this.assembly.attach(opening.parts)
        this.#reported = ''
        joined = true
      }
    }
    return joined
  }

  /** It is tried again after a while. What keeps all of them from opening is told once. */
  #refuse(name: string, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error)
    const detail = `could not be opened and is tried again: ${reason}`
    const refused: Refused = { detail, due: false }
    this.#refused.set(name, refused)
    if (reason !== this.#reported) this.#options.onRefused(error)
    this.#reported = reason
    this.#options.environment.schedule(() => {
      refused.due = true
      this.wake()
    }, REOPEN_MS)
  }

  #take(name: string, id: TaskId): void {
    this.#refused.delete(name)
    const opening: Opening = {
      id,
      abort: new AbortController(),
      done: Promise.resolve(),
      detail: 'asking for its offsets and the ends of its changelogs',
    }
    this.#opening.set(name, opening)
    const onProgress = (detail: string) => {
      opening.detail = detail
    }
    opening.done = this.#open(id, onProgress, opening.abort.signal).then(
      parts => {
        opening.parts = parts
        this.wake()
      },
      error => {
        opening.error = error
        this.wake()
      },
    )
  }

  #open(
    id: TaskId,
    onProgress: (detail: string) => void,
    signal?: AbortSignal,
  ): Promise<TaskParts> {
    const { plan, log, database, environment, settings, membership } = this.#options
    const { refusals, retries } = this.#options
    return openTask(
      {
        plan,
        log,
        database,
        refusals,
        retries,
        limits: this.#options.limits,
        lettersTopicId: this.#options.lettersTopicId,
        storeCacheBytes: settings.storeCacheBytes,
        closeRowsMax: settings.closeRowsMax,
        clock: environment.clock,
        remote: membership !== undefined,
        surroundings: this.assembly.surroundings,
        onRestore: (task, store, { position, end, bytes }) => {
          this.#restored(store, bytes)
          onProgress(`${task}: restoring ${store}, ${position} of ${end}`)
          environment.reached?.('restore-mid')
        },
        reached: point => environment.reached?.(point),
        turns: this.#restores,
        ...(signal === undefined ? {} : { signal }),
      },
      id,
    )
  }

  #restored(store: string, bytes: number): void {
    const { restoredBytes } = this.#options
    restoredBytes.set(store, (restoredBytes.get(store) ?? 0) + bytes)
  }

  async #closeOpening(isLeaving: (name: string) => boolean): Promise<void> {
    for (const [name, opening] of this.#opening) {
      if (!isLeaving(name)) continue
      opening.abort.abort(new Error(`${name} was given up`))
      await opening.done
      this.#opening.delete(name)
    }
  }

  #follow(name: string, id: TaskId): void {
    const { plan, log, database, environment, settings } = this.#options
    const { storeCacheBytes } = settings
    const { schedule, clock } = environment
    this.#standbys.set(
      name,
      new Standby({
        plan,
        log,
        database,
        storeCacheBytes,
        limits: this.#options.limits,
        schedule,
        clock,
        id,
        turns: this.#follows,
        onRestore: (store, bytes) => this.#restored(store, bytes),
      }),
    )
  }

  async #closeStandbys(
    isLeaving: (name: string) => boolean,
    wanted?: ReadonlyMap<string, TaskId>,
  ): Promise<void> {
    for (const [name, standby] of this.#standbys) {
      if (!isLeaving(name)) continue
      await standby.close()
      this.#standbys.delete(name)
      if (wanted?.has(name)) this.#options.environment.reached?.('promote-mid')
    }
  }

  /** Ends everything that runs beside the epochs; the tasks hold nothing uncommitted. */
  async close(): Promise<void> {
    await this.#closeOpening(() => true)
    await this.#closeStandbys(() => true)
  }

  #tasks(ids: TaskIds): [string, TaskId][] {
    const { subTopologies } = this.#options.plan
    return Object.entries(ids).flatMap(([name, partitions]) => {
      const subTopology = subTopologies.find(sub => sub.name === name)
      if (subTopology === undefined) return []
      return partitions.map((partition): [string, TaskId] => {
        const id = { subTopology, partition }
        return [taskName(id), id]
      })
    })
  }
}

function tasksOf(plan: Plan): TaskId[] {
  return plan.subTopologies.flatMap(subTopology =>
    Array.from({ length: subTopology.partitions }, (_, partition) => ({ subTopology, partition })),
  )
}
