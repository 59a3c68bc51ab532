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

/** Something that an operator does as the watermark passes. */
export interface ClosingPart {
  /** Whether `advance` has anything to do. */
  due(watermarkMs: number): boolean
  /** Resolves with how far it came when it has more to do than one step may. */
  advance(watermarkMs: number, from: Closing | undefined): Promise<Closing | undefined>
}

/** One part after the other, each begun when those before it are through. */
export function advanceInTurn(
  parts: readonly ClosingPart[],
  watermarkMs: number,
  from: Closing | undefined,
): Promise<Closing | undefined> | undefined {
  return parts.some(part => part.due(watermarkMs))
    ? advanceDue(parts, watermarkMs, from)
    : undefined
}

async function advanceDue(
  parts: readonly ClosingPart[],
  watermarkMs: number,
  from: Closing | undefined,
): Promise<Closing | undefined> {
  for (const part of parts) {
    if (!part.due(watermarkMs)) continue
    const closing = await part.advance(watermarkMs, from)
    if (closing !== undefined) return closing
  }
  return undefined
}
