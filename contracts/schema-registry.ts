/**
 * What is asked of a schema registry, whoever keeps it: a server (`registry-client.ts`) or a topic
 * of the log (`schema-topic.ts`). And how the schemas of this version get into it at start.
 */
import { type AvroRecord, parseAvro } from './avro-schema.ts'
import { ContractError } from './errors.ts'
import type { EventType } from './events.ts'
import {
  type EventSchema,
  eventSchemas,
  type SchemaDirectory,
  type SchemaVersion,
  schemaHistory,
} from './schemas.ts'

export const compatibilities = [
  'BACKWARD',
  'BACKWARD_TRANSITIVE',
  'FORWARD',
  'FORWARD_TRANSITIVE',
  'FULL',
  'FULL_TRANSITIVE',
  'NONE',
] as const
export type Compatibility = (typeof compatibilities)[number]

export interface SchemaRegistry {
  /** Says what later versions of the subject must be. */
  setCompatibility(subject: string, compatibility: Compatibility): Promise<void>
  /**
   * The schema's id; the one that it has when the subject holds it already. Throws SCHEMA_REFUSED
   * with the registry's reason.
   */
  register(subject: string, schema: AvroRecord): Promise<number>
  /** The document with that id; undefined when there is none. */
  schemaOf(id: number): Promise<RegisteredSchema | undefined>
}

export interface RegisteredSchema {
  /** AVRO, JSON, PROTOBUF. */
  readonly format: string
  readonly text: string
}

/**
 * The subject of an event: the full name of its record (RecordNameStrategy), as several types share
 * a topic and a type is the same in every topic that has it.
 */
export function subjectOf({ namespace, name }: AvroRecord): string {
  return namespace === undefined || name.includes('.') ? name : `${namespace}.${name}`
}

export interface RegistrationOptions {
  /** By event type; BACKWARD unless given. */
  readonly compatibility?: (type: EventType) => Compatibility
  /** Every version of every event, the ids of an empty registry in their order. */
  readonly history?: readonly Omit<SchemaVersion, 'id'>[]
}

/**
 * Registers every version of every event, one after the other: a registry that is empty gives them
 * the fixed ids. Resolves with the ids it gave.
 */
export async function registerEvents(
  registry: SchemaRegistry,
  { compatibility = () => 'BACKWARD', history = schemaHistory }: RegistrationOptions = {},
): Promise<EventSchema[]> {
  const rows: EventSchema[] = []
  for (const { type, version, schema } of history) {
    const subject = subjectOf(schema)
    if (version === 1) await registry.setCompatibility(subject, compatibility(type))
    rows.push({ id: await registry.register(subject, schema), type, schema })
  }
  return rows
}

const types = new Map(
  Object.entries(eventSchemas).map(([type, schema]) => [subjectOf(schema), type as EventType]),
)

/** How long an id that nobody knows is not asked for again, ms; and how many are kept. */
const REFUSED_MS = 60_000
const REFUSED_MAX = 10_000

interface Refusal {
  readonly reason: string
  readonly untilMs: number
}

export interface DirectoryOptions {
  readonly registry: SchemaRegistry
  /** What `registerEvents` resolved with. */
  readonly rows: readonly EventSchema[]
  /** Epoch ms. */
  readonly clock: () => number
  /** Ends the look-ups that are under way. */
  readonly signal?: AbortSignal
}

/** The directory over a registry: an id is looked up once, at its first record, and kept. */
export class RegistryDirectory implements SchemaDirectory {
  readonly #options: DirectoryOptions
  readonly #known = new Map<number, EventSchema>()
  readonly #current = new Map<EventType, EventSchema>()
  readonly #refused = new Map<number, Refusal>()
  readonly #asked = new Set<number>()

  constructor(options: DirectoryOptions) {
    this.#options = options
    for (const row of options.rows) {
      this.#known.set(row.id, row)
      this.#current.set(row.type, row)
    }
  }

  byId(id: number): EventSchema | undefined {
    return this.#known.get(id)
  }

  current(type: EventType): EventSchema {
    return this.#current.get(type)!
  }

  versions(type: EventType): readonly EventSchema[] {
    return this.#options.rows.filter(row => row.type === type)
  }

  missing(id: number): string | undefined {
    const refusal = this.#refused.get(id)
    if (refusal !== undefined && this.#options.clock() < refusal.untilMs) return refusal.reason
    if (!this.#asked.has(id)) {
      this.#asked.add(id)
      this.#lookUp(id).finally(() => this.#asked.delete(id))
    }
    return undefined
  }

  async #lookUp(id: number): Promise<void> {
    try {
      const found = await this.#options.registry.schemaOf(id)
      if (found === undefined) throw unknown(id, 'the registry has no schema of that id')
      this.#known.set(id, eventSchema(id, found))
      this.#refused.delete(id)
    } catch (error) {
      // The look-up was ended, not answered: a record that waits goes on waiting.
      if (this.#options.signal?.aborted) return
      const reason = error instanceof ContractError ? error.reason : `id ${id}: ${error}`
      if (this.#refused.size >= REFUSED_MAX) {
        this.#refused.delete(this.#refused.keys().next().value!)
      }
      this.#refused.set(id, { reason, untilMs: this.#options.clock() + REFUSED_MS })
    }
  }
}

function eventSchema(id: number, { format, text }: RegisteredSchema): EventSchema {
  if (format !== 'AVRO') throw unknown(id, `the schema is ${format}, not Avro`)
  const schema = parseAvro(JSON.parse(text))
  const subject = subjectOf(schema)
  const type = types.get(subject)
  if (type === undefined) throw unknown(id, `${subject} is no event that is known here`)
  return { id, type, schema }
}

function unknown(id: number, why: string): ContractError {
  return new ContractError('EVENT_SCHEMA_UNKNOWN', `id ${id}: ${why}`)
}
