/**
 * A large close is spread over epochs (law 13). A step closes so many rows in the order in which
 * they close, and says how far it came; that is committed with the epoch, in the operator's row
 * of event time. Until the rest is closed:
 *
 * - records are judged by the watermark that the operator has heard, as if all were closed;
 * - the operator forwards only what it has closed, so no result is overtaken (law 8);
 * - no input is collected: closing catches up before more is opened.
 */
import type { Row, RowKey, RowRange, RowStore } from '../state/port.ts'

/** How far an operator has come that has more to close than one step may. */
export interface Closing {
  /** All that closes at or before this watermark is closed, and its results have been sent. */
  readonly closedMs: number
  /** The last row closed beyond that, where closed rows stay in the store; empty for none. */
  readonly row: RowKey
}

/** The first rows of a range, and the first one that is left, if any. */
export async function firstRows<V>(
  store: RowStore<V>,
  range: RowRange,
  rowsMax: number,
): Promise<{ readonly rows: Row<V>[]; readonly left: Row<V> | undefined }> {
  const rows: Row<V>[] = []
  for await (const chunk of store.scan({ ...range, limit: rowsMax + 1 })) rows.push(...chunk)
  return { rows, left: rows.length > rowsMax ? rows.pop() : undefined }
}

/**
 * Deletes rows before a key, so many at most. What is left holds no result back, so all that
 * closes at or before `watermarkMs` counts as closed.
 */
export async function dropRows(
  store: RowStore<unknown>,
  lt: RowKey,
  { rowsMax, watermarkMs }: { readonly rowsMax: number; readonly watermarkMs: number },
): Promise<Closing | undefined> {
  const dropped = await store.deleteRange('', lt, rowsMax)
  return dropped < rowsMax ? undefined : { closedMs: watermarkMs, row: '' }
}
