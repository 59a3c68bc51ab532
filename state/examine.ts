/**
 * Reads everything of a store in the database and says what is wrong with it: rows and index rows
 * that cannot be read or decoded, blocks that are not in the log, a position behind the end of
 * the changelog. Changes nothing.
 */
import type { Database } from '../log/database.ts'
import { reasonOf } from '../log/errors.ts'
import { AppendKeys, decodeChunk, ENTRY_BYTES } from './append-format.ts'
import { readApplied } from './applied-offset.ts'
import { assert } from './errors.ts'
import { afterPrefix, keyText, rowsPrefix } from './keys.ts'
import type { Codec } from './port.ts'

export interface StoreToExamine {
  readonly name: string
  readonly partition: number
  readonly kind: 'rows' | 'blocks'
  /** Of rows, where the topology has the store. */
  readonly codec?: Codec<unknown>
  /** End offset of the changelog; undefined where it is in another log than this database's. */
  readonly changelogEnd: number | undefined
  /** Sizes of the changelog's batches at these offsets; null where there is none. */
  readonly blockSizes: (offsets: readonly number[]) => Promise<readonly (number | null)[]>
}

export interface StoreReport {
  readonly store: string
  readonly partition: number
  /** Rows, or records in blocks. */
  rows: number
  /** The changelog is applied up to here. */
  applied: number
  readonly problems: string[]
  /** The changelog does not hold all that the store refers to: it cannot be restored from it. */
  changelogShort: boolean
}

/** More problems of one store are counted, not told one by one. */
const PROBLEMS_TOLD = 5

export async function examineStore(
  database: Database,
  store: StoreToExamine,
): Promise<StoreReport> {
  const { name, partition, changelogEnd } = store
  const report: StoreReport = {
    store: name,
    partition,
    rows: 0,
    applied: 0,
    problems: [],
    changelogShort: false,
  }
  const told = new Problems(report)
  try {
    report.applied = (await readApplied(database, store)).offset
    if (changelogEnd !== undefined && report.applied > changelogEnd) {
      report.changelogShort = true
      told.add(`it is at offset ${report.applied} of its changelog, which ends at ${changelogEnd}`)
    }
    if (store.kind === 'rows') await examineRows(database, store, report, told)
    else await examineBlocks(database, store, report, told)
  } catch (error) {
    told.add(`unreadable: ${reasonOf(error)}`)
  }
  told.end()
  return report
}

class Problems {
  readonly #report: StoreReport
  #count = 0

  constructor(report: StoreReport) {
    this.#report = report
  }

  add(problem: string): void {
    if (++this.#count <= PROBLEMS_TOLD) this.#report.problems.push(problem)
  }

  end(): void {
    const more = this.#count - PROBLEMS_TOLD
    if (more > 0) this.#report.problems.push(`and ${more} more`)
  }
}

async function examineRows(
  database: Database,
  { name, partition, codec }: StoreToExamine,
  report: StoreReport,
  told: Problems,
): Promise<void> {
  const prefix = rowsPrefix(name, partition)
  const gte = Buffer.from(prefix, 'latin1')
  const lt = Buffer.from(afterPrefix(prefix)!, 'latin1')
  for await (const entries of database.scan({ gte, lt })) {
    for (const { key, value } of entries) {
      report.rows++
      try {
        codec?.decode(value)
      } catch (error) {
        told.add(`row ${keyText(key.subarray(gte.length))}: ${reasonOf(error)}`)
      }
    }
  }
}

async function examineBlocks(
  database: Database,
  { name, partition, blockSizes, changelogEnd }: StoreToExamine,
  report: StoreReport,
  told: Problems,
): Promise<void> {
  const keys = new AppendKeys(name, partition)
  for await (const rows of database.scan(keys.range('c'))) {
    for (const { key, value } of rows) {
      const { blocks } = decodeChunk(value)
      const [first] = blocks
      assert(first !== undefined, 'a chunk has blocks')
      const entriesKey = keys.row('e', keys.segmentStartOf(key), first.id)
      const [entries] = await database.getMany([entriesKey])
      let records = 0
      for (const block of blocks) records += block.records
      report.rows += records
      if (entries?.length !== records * ENTRY_BYTES) {
        told.add(`the index of the blocks from offset ${first.id} on does not fit them`)
      }
      if (changelogEnd === undefined) continue
      const sizes = await blockSizes(blocks.map(({ id }) => id))
      blocks.forEach(({ id, sizeBytes }, i) => {
        if (sizes[i] === sizeBytes) return
        report.changelogShort = true
        told.add(`the block at offset ${id} is not there, or not whole`)
      })
    }
  }
}
