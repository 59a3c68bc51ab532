/**
 * A schema registry's memory: subjects, their versions, ids and rules. It is a pure function of the
 * rows applied to it, which have the form of the topic `_schemas` of Confluent's registry:
 *
 *   key    {"keytype":"SCHEMA","subject":S,"version":N,"magic":1}
 *   value  {"subject":S,"version":N,"id":I,"schema":TEXT,"deleted":false}
 *   key    {"keytype":"CONFIG","subject":S,"magic":0}
 *   value  {"compatibilityLevel":L}
 */
import { compileReader } from './avro-reader.ts'
import { type AvroRecord, parseAvro } from './avro-schema.ts'
import { ContractError } from './errors.ts'
import type { Compatibility, RegisteredSchema } from './schema-registry.ts'

export interface SchemaRow {
  readonly key: string
  readonly value: string
}

interface Version {
  readonly id: number
  readonly version: number
  readonly text: string
}

export class SubjectTable {
  readonly #subjects = new Map<string, Version[]>()
  readonly #rules = new Map<string, Compatibility>()
  readonly #texts = new Map<number, string>()

  /** Takes a row of the topic. */
  apply({ key, value }: SchemaRow): void {
    const { keytype, subject } = JSON.parse(key)
    const row = JSON.parse(value)
    if (keytype === 'CONFIG') this.#rules.set(subject, row.compatibilityLevel)
    if (keytype !== 'SCHEMA') return
    const version = { id: row.id, version: row.version, text: row.schema }
    const versions = this.#subjects.get(subject) ?? []
    this.#subjects.set(subject, [...versions, version])
    this.#texts.set(row.id, row.schema)
  }

  schemaOf(id: number): RegisteredSchema | undefined {
    const text = this.#texts.get(id)
    return text === undefined ? undefined : { format: 'AVRO', text }
  }

  /** The row that changes the rule; undefined when it is as wanted. */
  ruleRow(subject: string, compatibility: Compatibility): SchemaRow | undefined {
    if (this.#rules.get(subject) === compatibility) return undefined
    const key = JSON.stringify({ keytype: 'CONFIG', subject, magic: 0 })
    return { key, value: JSON.stringify({ compatibilityLevel: compatibility }) }
  }

  /**
   * The id of a schema that the subject holds, or the row that adds it. Throws SCHEMA_REFUSED when
   * it breaks the subject's rule.
   */
  registration(subject: string, schema: AvroRecord): number | SchemaRow {
    const text = JSON.stringify(schema)
    const versions = this.#subjects.get(subject) ?? []
    const held = versions.find(version => version.text === text)
    if (held !== undefined) return held.id
    this.#check(subject, schema, versions)
    const version = (versions.at(-1)?.version ?? 0) + 1
    const id = Math.max(0, ...this.#texts.keys()) + 1
    return {
      key: JSON.stringify({ keytype: 'SCHEMA', subject, version, magic: 1 }),
      value: JSON.stringify({ subject, version, id, schema: text, deleted: false }),
    }
  }

  #check(subject: string, schema: AvroRecord, versions: readonly Version[]): void {
    const rule = this.#rules.get(subject) ?? 'BACKWARD'
    const others = rule.endsWith('_TRANSITIVE') ? versions : versions.slice(-1)
    for (const { version, text } of others) {
      const reason = breach(rule, schema, parseAvro(JSON.parse(text)))
      if (reason === undefined) continue
      const problem = `${subject}: not ${rule} compatible with version ${version}: ${reason}`
      throw new ContractError('SCHEMA_REFUSED', problem)
    }
  }
}

/** How a new schema breaks the rule against an older one; undefined when it keeps it. */
function breach(rule: Compatibility, newer: AvroRecord, older: AvroRecord): string | undefined {
  const [direction] = rule.split('_')
  const backward = direction === 'BACKWARD' || direction === 'FULL'
  const forward = direction === 'FORWARD' || direction === 'FULL'
  return (
    (backward ? unreadable(newer, older) : undefined) ??
    (forward ? unreadable(older, newer) : undefined)
  )
}

/** Why a reader cannot read all that a writer writes, by Avro's resolution. */
export function unreadable(reader: AvroRecord, writer: AvroRecord): string | undefined {
  try {
    compileReader(writer, { reader })
    return undefined
  } catch (error) {
    if (error instanceof ContractError) return error.reason
    throw error
  }
}
