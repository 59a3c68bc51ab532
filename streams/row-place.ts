/** Where a row stands in a view: rows of all partitions are ordered by key, then by partition. */
import type { RowKey } from '../state/port.ts'
import { streamsError } from './errors.ts'
import type { AsOf, RowsScope } from './views.ts'

export interface RowPlace {
  readonly key: RowKey
  readonly partition: number
}

export function comparePlaces(a: RowPlace, b: RowPlace): number {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1
  return a.partition - b.partition
}

/** What a cursor belongs to: another filter's cursor would skip or repeat rows. */
export function filterId(view: string, query: RowsScope & AsOf): string {
  const { key, prefix = null, from = null, to = null, asOf } = query
  const filters = [view, Object.entries(key).sort(), prefix, from, to]
  return JSON.stringify(asOf === undefined ? filters : [...filters, asOf])
}

/** Good on every instance: it names the last row that was looked at, and nothing of a cut. */
export function encodeCursor({ key, partition }: RowPlace, filters: string): string {
  return Buffer.from(JSON.stringify([key, partition, filters])).toString('base64url')
}

/** Throws CURSOR_INVALID. */
export function decodeCursor(cursor: string, filters: string): RowPlace {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    const [key, partition, given] = parts as [unknown, unknown, unknown]
    const isPlace = typeof key === 'string' && Number.isSafeInteger(partition)
    if (isPlace && given === filters) return { key, partition: partition as number }
  } catch {
    // Reported below, as any other cursor that is not ours.
  }
  throw streamsError('CURSOR_INVALID')
}

/** Merges sources that are sorted; they are few, so the least is found by looking at all. */
export async function* mergeRows<T extends RowPlace>(
  sources: AsyncGenerator<T>[],
): AsyncGenerator<T> {
  try {
    const heads = await Promise.all(sources.map(source => source.next()))
    for (;;) {
      let least = -1
      heads.forEach((head, i) => {
        if (head.done) return
        if (least < 0 || comparePlaces(head.value, heads[least]!.value as T) < 0) least = i
      })
      if (least < 0) return
      yield heads[least]!.value as T
      heads[least] = await sources[least]!.next()
    }
  } finally {
    await Promise.all(sources.map(source => source.return(undefined)))
  }
}
