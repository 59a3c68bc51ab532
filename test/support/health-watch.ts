/** Asks a service again and again whether it lives and is ready, and keeps what it said. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface HealthAnswer {
  readonly atMs: number
  /** 0 when there was no answer. */
  readonly livez: number
  readonly readyz: number
  /** Why it is not ready. */
  readonly reason: string
}

const EVERY_MS = 200

export class HealthWatch {
  readonly answers: HealthAnswer[] = []
  readonly #url: string
  readonly #done: Promise<void>
  #stopping = false

  constructor(url: string) {
    this.#url = url
    this.#done = this.#run()
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const [live, ready] = await Promise.all([this.#ask('/livez'), this.#ask('/readyz')])
      const reason = ready.status === 200 ? '' : ready.text
      this.answers.push({ atMs: Date.now(), livez: live.status, readyz: ready.status, reason })
      await sleep(EVERY_MS)
    }
  }

  async #ask(path: string): Promise<{ status: number; text: string }> {
    try {
      const response = await fetch(this.#url + path, { signal: AbortSignal.timeout(10_000) })
      return { status: response.status, text: await response.text() }
    } catch (error) {
      return { status: 0, text: String(error) }
    }
  }

  /** The first answer from then on for which that holds; waits for it. */
  async until(
    holds: (answer: HealthAnswer) => boolean,
    sinceMs: number,
    waitMsMax: number,
  ): Promise<HealthAnswer | undefined> {
    const endMs = Date.now() + waitMsMax
    for (;;) {
      const found = this.answers.find(answer => answer.atMs >= sinceMs && holds(answer))
      if (found !== undefined || Date.now() > endMs) return found
      await sleep(EVERY_MS)
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#done
  }
}
