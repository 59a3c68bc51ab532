/** Whether a row, or the identifying fields of a deleted one, is in a subscription's scope. */
import type { RowsScope, ViewDeclaration, ViewRow } from '../streams/views.ts'

export type RowTest = (row: ViewRow) => boolean

/** Undefined when every row is in scope. */
export function rowTest(view: ViewDeclaration, scope: RowsScope): RowTest | undefined {
  const exact = Object.entries(scope.key)
  const { prefix, from = 0, to = Number.POSITIVE_INFINITY } = scope
  const windowed = scope.from !== undefined || scope.to !== undefined
  if (exact.length === 0 && prefix === undefined && !windowed) return undefined
  const first = view.key[0]?.name ?? ''
  return row => {
    for (const [field, value] of exact) {
      if (String(row[field]) !== value) return false
    }
    if (prefix !== undefined && !String(row[first]).startsWith(prefix)) return false
    if (!windowed) return true
    const start = row.windowStart as number
    return start >= from && start < to
  }
}

/** The same text for equal scopes: subscribers with it share encoded deltas. */
export function scopeText({ key, prefix, from, to }: RowsScope): string {
  const exact = Object.entries(key).sort(([a], [b]) => (a < b ? -1 : 1))
  const plain = exact.length === 0 && prefix === undefined && from === undefined
  return plain && to === undefined ? '' : JSON.stringify([exact, prefix, from, to])
}
