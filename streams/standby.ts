/**
 * A standby: the state of a task that runs elsewhere, kept close to its changelogs on this disk,
 * so that the task can go on here without a long restore.
 */
import type { RestoreStep, Store } from '../state/port.ts'
import { openStores, type StoreOptions, type TaskId } from './task-parts.ts'
import type { Turns } from './turns.ts'

/** Between one look at the changelogs and the next. */
const FOLLOW_MS = 500
const RETRY_MS = 5_000

export interface StandbyOptions extends StoreOptions {
  readonly id: TaskId
  readonly turns: Turns
  readonly onRestore: (store: string, bytes: number) => void
  readonly schedule: (task: () => void, delayMs: number) => () => void
}

export class Standby {
  detail = 'opening its stores'
  readonly #options: StandbyOptions
  readonly #closing = new AbortController()
  readonly #done: Promise<void>

  constructor(options: StandbyOptions) {
    this.#options = options
    this.#done = this.#follow()
  }

  async #follow(): Promise<void> {
    const { signal } = this.#closing
    let stores: Map<string, Store> | undefined
    while (!signal.aborted) {
      try {
        stores ??= await openStores(this.#options, this.#options.id)
        for (const [name, store] of stores) {
          const onProgress = ({ position, end, bytes }: RestoreStep) => {
            this.#options.onRestore(name, bytes)
            this.detail = `${name} is at ${position} of ${end}`
          }
          const turn = () => this.#options.turns.take(signal)
          await store.restore(onProgress, { signal, turn })
          if (signal.aborted) return
        }
        this.detail = 'up to its changelogs'
        await this.#pause(FOLLOW_MS)
      } catch (error) {
        if (signal.aborted) return
        stores = undefined
        this.detail = `cannot follow: ${error instanceof Error ? error.message : error}`
        await this.#pause(RETRY_MS)
      }
    }
  }

  #pause(delayMs: number): Promise<void> {
    const { signal } = this.#closing
    return new Promise(resolve => {
      const end = () => {
        cancel()
        signal.removeEventListener('abort', end)
        resolve()
      }
      const cancel = this.#options.schedule(end, delayMs)
      signal.addEventListener('abort', end)
    })
  }

  /** Resolves when nothing of it touches the state any more. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#done
  }
}
