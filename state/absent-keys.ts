/**
 * Which keys have no row in the database, so that a miss costs no read. What was there when it
 * was first asked is known by its highest key alone, what was written since by a filter: keys
 * above the one and not in the other have no row. So rows that begin with a time, and all rows
 * of a store that began empty, are known of; others are read.
 */
import type { Database } from '../log/database.ts'
import { databaseRange } from './committed-rows.ts'
import { KeyFilter } from './key-filter.ts'
import type { RowKey } from './port.ts'

export class AbsentKeys {
  readonly #database: Database
  readonly #prefix: string
  readonly #written = new KeyFilter()
  /** Undefined until it is looked for. */
  #highest: RowKey | undefined

  constructor(database: Database, prefix: string) {
    this.#database = database
    this.#prefix = prefix
  }

  get isKnown(): boolean {
    return this.#highest !== undefined
  }

  /** True when the key has no row; false says nothing. */
  has(key: RowKey): boolean {
    return this.#highest !== undefined && key > this.#highest && !this.#written.mayHave(key)
  }

  /** To be called before a row of the key can be in the database. */
  written(key: RowKey): void {
    this.#written.add(key)
  }

  /** Rows were written without `written`. */
  forget(): void {
    this.#highest = undefined
  }

  /** The highest key that the database had when it was looked for: now, or before. */
  async highest(): Promise<RowKey> {
    if (this.#highest === undefined) await this.lookUp()
    return this.#highest!
  }

  async lookUp(): Promise<void> {
    let highest: RowKey = ''
    const range = databaseRange(this.#prefix, { reverse: true, limit: 1 })
    for await (const [last] of this.#database.scan(range)) {
      highest = last!.key.latin1Slice(this.#prefix.length)
    }
    this.#highest = highest
  }
}
