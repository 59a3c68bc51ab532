/**
 * A schema registry with Confluent's HTTP API (Confluent, Apicurio, Karapace, Redpanda). Calls wait
 * and try again while it cannot be reached: a registry that is down holds up, and breaks nothing.
 */
import type { AvroRecord } from './avro-schema.ts'
import { ContractError } from './errors.ts'
import type { Compatibility, RegisteredSchema, SchemaRegistry } from './schema-registry.ts'

export interface HttpAnswer {
  readonly status: number
  readonly text: string
}

/** One request to the registry. Rejects when it cannot be reached. */
export type HttpCall = (method: string, path: string, body?: object) => Promise<HttpAnswer>

export interface RegistryClientOptions {
  readonly call: HttpCall
  readonly schedule: (task: () => void, delayMs: number) => () => void
  /** Told of each call that has to be made again, and when. */
  readonly onRetry?: (reason: string, delayMs: number) => void
  /** Ends what is tried again. */
  readonly signal?: AbortSignal
}

const RETRY_MS_FIRST = 100
const RETRY_MS_MAX = 10_000

/** Says that the registry or what is before it is not itself. */
const passing = new Set([408, 425, 429])

export class RegistryClient implements SchemaRegistry {
  readonly #options: RegistryClientOptions
  /** Rules that a registry takes only once the subject has a version, as Apicurio takes NONE. */
  readonly #later = new Map<string, Compatibility>()

  constructor(options: RegistryClientOptions) {
    this.#options = options
  }

  async setCompatibility(subject: string, compatibility: Compatibility): Promise<void> {
    const path = `/config/${encodeURIComponent(subject)}`
    const now = await this.#answer('GET', path)
    if (now.status === 200 && memberOf(now, 'compatibilityLevel') === compatibility) return
    const answer = await this.#answer('PUT', path, { compatibility })
    if (answer.status === 200) return
    if (answer.status !== 404 || this.#later.has(subject)) throw refused(answer, `PUT ${path}`)
    this.#later.set(subject, compatibility)
  }

  async register(subject: string, schema: AvroRecord): Promise<number> {
    const path = `/subjects/${encodeURIComponent(subject)}/versions`
    const answer = await this.#answer('POST', path, { schema: JSON.stringify(schema) })
    const id = answer.status === 200 ? memberOf(answer, 'id') : undefined
    if (typeof id === 'number') {
      const rule = this.#later.get(subject)
      if (rule !== undefined) await this.setCompatibility(subject, rule)
      this.#later.delete(subject)
      return id
    }
    if (answer.status !== 409 && answer.status !== 422) throw refused(answer, `POST ${path}`)
    throw new ContractError('SCHEMA_REFUSED', `${subject}: ${messageOf(answer)}`)
  }

  async schemaOf(id: number): Promise<RegisteredSchema | undefined> {
    for (let attempt = 0; ; attempt++) {
      const answer = await this.#answer('GET', `/schemas/ids/${id}`)
      const text = answer.status === 200 ? memberOf(answer, 'schema') : undefined
      if (typeof text === 'string') {
        const format = memberOf(answer, 'schemaType')
        return { format: typeof format === 'string' ? format : 'AVRO', text }
      }
      // A 404 of something before the registry, or rights that are missing, make no record poison.
      if (answer.status === 404 && memberOf(answer, 'error_code') !== undefined) return undefined
      await this.#pause(attempt, messageOf(answer))
    }
  }

  /** An answer that is the registry's own, however long it takes to get one. */
  async #answer(method: string, path: string, body?: object): Promise<HttpAnswer> {
    for (let attempt = 0; ; attempt++) {
      let reason: string
      try {
        const answer = await this.#options.call(method, path, body)
        if (answer.status < 500 && !passing.has(answer.status)) return answer
        reason = messageOf(answer)
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error)
      }
      await this.#pause(attempt, reason)
    }
  }

  /** Waits longer after each attempt. */
  async #pause(attempt: number, reason: string): Promise<void> {
    const { schedule, signal, onRetry } = this.#options
    signal?.throwIfAborted()
    const delayMs = Math.min(RETRY_MS_FIRST * 2 ** Math.min(attempt, 20), RETRY_MS_MAX)
    onRetry?.(reason, delayMs)
    await new Promise<void>((resolve, reject) => {
      const end = () => {
        cancel()
        reject(signal?.reason)
      }
      const cancel = schedule(() => {
        signal?.removeEventListener('abort', end)
        resolve()
      }, delayMs)
      signal?.addEventListener('abort', end, { once: true })
    })
  }
}

function memberOf({ text }: HttpAnswer, name: string): unknown {
  try {
    const body: unknown = JSON.parse(text)
    return typeof body === 'object' && body !== null
      ? (body as Readonly<Record<string, unknown>>)[name]
      : undefined
  } catch {
    return undefined
  }
}

const shownMax = 500

function messageOf(answer: HttpAnswer): string {
  const message = memberOf(answer, 'message')
  return typeof message === 'string' ? message.slice(0, shownMax) : `status ${answer.status}`
}

function refused(answer: HttpAnswer, what: string): ContractError {
  return new ContractError('REGISTRY_REFUSED', `${what}: ${messageOf(answer)}`)
}
