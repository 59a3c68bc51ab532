/** Questions that are asked at about the same time, sent as one. */
import { MillraceError } from '../errors.ts'
import type { LogEnvironment } from '../port.ts'

interface Waiting<Ask, Answer> {
  readonly asks: readonly Ask[]
  readonly resolve: (answers: readonly Answer[]) => void
  readonly reject: (error: unknown) => void
}

export class Coalesced<Ask, Answer> {
  readonly #environment: LogEnvironment
  readonly #send: (asks: readonly Ask[]) => Promise<readonly Answer[]>
  #waiting: Waiting<Ask, Answer>[] = []

  /** `send` answers in the order of what it is asked. */
  constructor(
    environment: LogEnvironment,
    send: (asks: readonly Ask[]) => Promise<readonly Answer[]>,
  ) {
    this.#environment = environment
    this.#send = send
  }

  /** Answers in order. What another caller asks for does not make this one fail. */
  ask(asks: readonly Ask[]): Promise<readonly Answer[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ asks, resolve, reject })
      if (this.#waiting.length === 1) this.#environment.schedule(() => this.#flush(), 0)
    })
  }

  async #flush(): Promise<void> {
    const together = this.#waiting
    this.#waiting = []
    try {
      const answers = await this.#send(together.flatMap(({ asks }) => asks))
      let next = 0
      for (const { asks, resolve } of together) {
        resolve(answers.slice(next, next + asks.length))
        next += asks.length
      }
    } catch (error) {
      // What passes concerns all of them, and waiting for it twice helps nobody.
      const passes = error instanceof MillraceError && error.recovery === 'retry'
      for (const { asks, resolve, reject } of together) {
        if (passes || together.length === 1) reject(error)
        else this.#send(asks).then(resolve, reject)
      }
    }
  }
}
