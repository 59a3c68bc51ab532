/** Reads a store's committed rows at one cut, beside the running epoch (law 19). */
import type { DatabaseReader } from '../log/database.ts'
import { afterPrefix, rowsPrefix } from './keys.ts'
import type { Codec, Row, RowKey, RowRange } from './port.ts'

export interface CommittedRowsOptions<V> {
  readonly name: string
  readonly partition: number
  readonly codec: Codec<V>
  readonly reader: DatabaseReader
}

export interface CommittedRows<V> {
  scan(range: RowRange): AsyncGenerator<readonly Row<V>[]>
  /** Undefined where a key has no row. */
  getMany(keys: readonly RowKey[]): Promise<(V | undefined)[]>
}

/** The database range of a row range. */
export function databaseRange(prefix: string, range: RowRange) {
  const lt = range.lt === undefined ? afterPrefix(prefix)! : prefix + range.lt
  return {
    gte: Buffer.from(prefix + (range.gte ?? ''), 'latin1'),
    lt: Buffer.from(lt, 'latin1'),
    reverse: range.reverse,
    limit: range.limit,
  }
}

export function committedRows<V>(options: CommittedRowsOptions<V>): CommittedRows<V> {
  const { codec, reader } = options
  const prefix = rowsPrefix(options.name, options.partition)
  return {
    async *scan(range) {
      for await (const chunk of reader.scan(databaseRange(prefix, range))) {
        yield chunk.map(({ key, value }) => ({
          key: key.latin1Slice(prefix.length),
          value: codec.decode(value),
        }))
      }
    },
    async getMany(keys) {
      const found = await reader.getMany(keys.map(key => Buffer.from(prefix + key, 'latin1')))
      return found.map(bytes => (bytes === null ? undefined : codec.decode(bytes)))
    },
  }
}
