/** Waiting, by the caller's clock and timers. */
import type { LogEnvironment } from '../port.ts'

const FIRST_MS = 20
const MAX_MS = 1000

/** Resolves after `delayMs`, or when `signal` aborts, whichever is first. */
export function pause(
  environment: LogEnvironment,
  delayMs: number,
  signal?: AbortSignal,
): Promise<void> {
  if (signal?.aborted) return Promise.resolve()
  return new Promise(resolve => {
    const end = () => {
      cancel()
      signal?.removeEventListener('abort', end)
      resolve()
    }
    const cancel = environment.schedule(end, delayMs)
    signal?.addEventListener('abort', end)
  })
}

/** Growing pauses with jitter, so that many clients of a broker do not return in step. */
export class Backoff {
  readonly #environment: LogEnvironment
  readonly #maxMs: number
  #failures = 0

  constructor(environment: LogEnvironment, maxMs = MAX_MS) {
    this.#environment = environment
    this.#maxMs = maxMs
  }

  /** The pause before the next try: between half of its bound and the bound. */
  nextMs(): number {
    const boundMs = Math.min(FIRST_MS * 2 ** this.#failures++, this.#maxMs)
    const share = this.#environment.randomBytes(1)[0]! / 255
    return boundMs * (0.5 + share / 2)
  }

  wait(signal?: AbortSignal): Promise<void> {
    return pause(this.#environment, this.nextMs(), signal)
  }

  reset(): void {
    this.#failures = 0
  }
}
