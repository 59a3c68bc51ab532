/** One line on a terminal, written over and over; nothing where standard error is none. */
import type { Terminal } from './command.ts'
import { effects } from './effects.ts'

const ERASE = '\r\x1b[K'

export class ProgressLine {
  readonly #terminal: Terminal
  readonly #intervalMs: number
  #shownMs = 0

  constructor(terminal: Terminal, intervalMs = 200) {
    this.#terminal = terminal
    this.#intervalMs = intervalMs
  }

  /** `text` makes the line; it is asked only when the line is due. */
  show(text: () => string): void {
    if (!this.#terminal.isInteractive) return
    const nowMs = effects.clock()
    if (nowMs - this.#shownMs < this.#intervalMs) return
    this.#shownMs = nowMs
    this.#terminal.err(ERASE + text())
  }

  end(): void {
    if (this.#shownMs > 0) this.#terminal.err(ERASE)
    this.#shownMs = 0
  }
}
