/** A command's own flags, read with a parser each. */
import { cliError } from './errors.ts'

export class Flags {
  readonly #command: string
  readonly #values: Readonly<Record<string, string | boolean | undefined>>

  constructor(command: string, values: Readonly<Record<string, string | boolean | undefined>>) {
    this.#command = command
    this.#values = values
  }

  /** For a throw: what is wrong with how the command was called. */
  usage(reason: string): Error {
    return cliError('USAGE', { reason: `${reason}\nSee \`millrace ${this.#command} --help\`.` })
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined
  }

  text(name: string): string | undefined {
    const value = this.#values[name]
    return typeof value === 'string' ? value : undefined
  }

  /** Throws USAGE when it is missing. */
  required(name: string): string {
    const value = this.text(name)
    if (value !== undefined && value !== '') return value
    throw this.usage(`Option --${name} is missing.`)
  }

  /** Undefined when absent. `parse` throws an error whose message says what is expected. */
  parsed<T>(name: string, parse: (text: string) => T): T | undefined {
    const value = this.text(name)
    if (value === undefined) return undefined
    try {
      return parse(value)
    } catch (error) {
      const expected = (error as Error).message
      throw this.usage(`--${name}: expected ${expected}, got ${JSON.stringify(value)}.`)
    }
  }
}

export function wholeNumber(text: string): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : 0
  if (value > 0) return value
  throw new Error('a whole number above 0')
}

/** Epoch ms or ISO 8601, in epoch ms. */
export function timeMs(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  const isIso = /^\d{4}-\d\d(-\d\d)?(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/.test(text)
  const value = isIso ? Date.parse(text) : Number.NaN
  if (!Number.isNaN(value)) return value
  throw new Error('epoch ms or a time such as 2026-01-05T08:00Z')
}
