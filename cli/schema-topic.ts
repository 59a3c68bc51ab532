/**
 * The schema registry of a log that has no other: the compacted topic `_schemas`. Its one writer is
 * the instance that holds the log.
 */
import type { AvroRecord } from '../contracts/avro-schema.ts'
import type {
  Compatibility,
  RegisteredSchema,
  SchemaRegistry,
} from '../contracts/schema-registry.ts'
import { type SchemaRow, SubjectTable } from '../contracts/subject-table.ts'
import type { EventLog } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { decodeBatches } from '../log/record-columns.ts'

export const schemaTopic = '_schemas'

const FETCH_BYTES = 1024 * 1024
const target = { topic: schemaTopic, partition: 0 }

export class SchemaTopic implements SchemaRegistry {
  readonly #log: EventLog
  readonly #clock: () => number
  readonly #table = new SubjectTable()
  #unwritten: SchemaRow[] = []

  private constructor(log: EventLog, clock: () => number) {
    this.#log = log
    this.#clock = clock
  }

  /** Creates the topic unless it is there, and reads what it holds. */
  static async open(log: EventLog, clock: () => number): Promise<SchemaTopic> {
    const topic = new SchemaTopic(log, clock)
    if ((await log.describeTopic(schemaTopic)) === undefined) {
      await log.createTopic(schemaTopic, 1, { cleanup: 'compact', retentionMs: -1 })
    }
    await topic.#read()
    return topic
  }

  async #read(): Promise<void> {
    for (let offset = 0; ; ) {
      const [response] = await this.#log.fetch([{ ...target, offset, bytesMax: FETCH_BYTES }])
      const { bytes, nextOffset } = response!
      if (nextOffset <= offset) return
      for (const columns of decodeBatches(bytes, { fromOffset: offset }).runs) {
        const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
        for (let i = 0; i < columns.length; i++) {
          const key = bytes.toString('utf8', keyStart[i]!, keyEnd[i]!)
          const value = bytes.toString('utf8', valueStart[i]!, valueEnd[i]!)
          this.#table.apply({ key, value })
        }
      }
      offset = nextOffset
    }
  }

  async setCompatibility(subject: string, compatibility: Compatibility): Promise<void> {
    const row = this.#table.ruleRow(subject, compatibility)
    if (row !== undefined) this.#add(row)
  }

  async register(subject: string, schema: AvroRecord): Promise<number> {
    const found = this.#table.registration(subject, schema)
    if (typeof found === 'number') return found
    this.#add(found)
    return this.#table.registration(subject, schema) as number
  }

  async schemaOf(id: number): Promise<RegisteredSchema | undefined> {
    return this.#table.schemaOf(id)
  }

  #add(row: SchemaRow): void {
    this.#table.apply(row)
    this.#unwritten.push(row)
  }

  /** Writes what was added, in one transaction: to be called before an event has a new id. */
  async flush(): Promise<void> {
    const rows = this.#unwritten
    if (rows.length === 0) return
    this.#unwritten = []
    const builder = new RecordBatchBuilder()
    for (const { key, value } of rows) builder.append(this.#clock(), whole(key), whole(value))
    const transaction = this.#log.begin()
    transaction.append(target, builder.finish())
    await transaction.commit()
  }
}

function whole(text: string) {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}
