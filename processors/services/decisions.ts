/**
 * When a service decides. A decision is about a moment `T`, and what the customer did up to `T`
 * counts, however late it arrives: it is taken when event time has come to `T` + `settleMs`. So
 * every interleaving of the topics decides alike. Where nothing more comes by which event time
 * would move, the wall clock takes its place: at `T`, and at least `patienceMs` after the cause
 * was read. What arrives later than that is too late, as it would be for people.
 */
import type { KeyedRows, Timer } from '../../streams/index.ts'
import { timedRow } from './order-rows.ts'
import type { ServiceSettings } from './settings.ts'

/** A decision to come; part of a service's row of its order. */
export interface Due {
  /** The moment it is about, epoch ms of event time. */
  readonly atMs: number
  /** When the wall clock takes it. */
  readonly wallMs: number
}

interface TimerContext {
  schedule(timer: Timer<string>): void
  cancel(timer: Timer<string>): void
  readonly watermarkMs: number
  readonly wallTimeMs: number
}

const name = 'decide'

export class Decisions {
  readonly #context: TimerContext
  readonly #settings: ServiceSettings
  /** Not state: a process that has just begun has read nothing yet, and so waits. */
  #readMs: number | undefined

  constructor(context: TimerContext, settings: ServiceSettings) {
    this.#context = context
    this.#settings = settings
  }

  /** A record of the task has come. */
  read(): void {
    this.#readMs = this.#context.wallTimeMs
  }

  plan(key: string, atMs: number): Due {
    const context = this.#context
    const wallMs = Math.max(atMs, context.wallTimeMs + this.#settings.patienceMs)
    context.schedule({ clock: 'event', atMs: atMs + this.#settings.settleMs, key, name })
    context.schedule({ clock: 'wall', atMs: wallMs, key, name })
    return { atMs, wallMs }
  }

  /** Takes the decision that an order's row waits for, when the timer says so. */
  onTimer<R extends { readonly due?: Due }>(
    rows: KeyedRows<string, R>,
    timer: Timer<string>,
    taken: (row: R) => R,
  ): void {
    const row = timedRow(rows, timer)
    if (row === undefined) return
    const judged = this.#judge(timer, row.due)
    if (judged !== 'leave') {
      rows.put(timer.key, judged === 'take' ? taken(row) : { ...row, due: judged })
    }
  }

  /** Whether the timer says that the decision is to be taken now; or when it will be. */
  #judge(timer: Timer<string>, due: Due | undefined): 'take' | 'leave' | Due {
    if (timer.name !== name || due === undefined) return 'leave'
    const { settleMs } = this.#settings
    const context = this.#context
    const { key } = timer
    if (timer.clock === 'event') {
      if (timer.atMs !== due.atMs + settleMs) return 'leave'
      context.cancel({ clock: 'wall', atMs: due.wallMs, key, name })
      return 'take'
    }
    if (timer.atMs !== due.wallMs) return 'leave'
    const waitsTo = this.#waitsTo()
    if (waitsTo === undefined) {
      context.cancel({ clock: 'event', atMs: due.atMs + settleMs, key, name })
      return 'take'
    }
    context.schedule({ clock: 'wall', atMs: waitsTo, key, name })
    return { ...due, wallMs: waitsTo }
  }

  /** Undefined when the wall clock may decide: the task reads what happens now, or nothing. */
  #waitsTo(): number | undefined {
    const { settleMs, patienceMs } = this.#settings
    const { watermarkMs, wallTimeMs } = this.#context
    this.#readMs ??= wallTimeMs
    if (watermarkMs + settleMs >= wallTimeMs) return undefined
    const quietMs = this.#readMs + patienceMs
    return quietMs <= wallTimeMs ? undefined : quietMs
  }
}
