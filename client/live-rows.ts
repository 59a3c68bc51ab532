/**
 * The rows of one subscription, kept by identity. A snapshot is gathered aside and takes the
 * place of the old rows when it is complete, so `rows` always shows one cut and never flickers.
 */
import type { LiveRow, ServerMessage } from '../contracts/live.ts'

/** What happened to the rows; `reset` means that all of them may differ. */
export type RowsEvent<Row> =
  | { readonly type: 'reset' }
  | { readonly type: 'changes'; readonly upserts: readonly Row[]; readonly deletes: readonly Row[] }

export class LiveRows<Row = LiveRow> {
  /** By identity: the JSON of the identifying fields' values. */
  rows: ReadonlyMap<string, Row> = new Map()
  /** The cut that `rows` shows; undefined before the first snapshot is complete. */
  position: string | undefined
  private key: readonly string[] = []
  private gathered: Map<string, Row> | undefined

  /** Drops what was gathered of a snapshot that will not be completed. */
  interrupted(): void {
    this.gathered = undefined
  }

  /** Applies a message of this subscription. */
  apply(message: ServerMessage): RowsEvent<Row> | undefined {
    switch (message.type) {
      case 'must-refetch':
        this.position = undefined
        this.gathered = undefined
        return undefined
      case 'snapshot':
        this.key = message.key
        this.gathered ??= new Map()
        for (const row of message.rows) this.gathered.set(this.identity(row), row as Row)
        return undefined
      case 'up-to-date':
        this.position = message.position
        return this.complete()
      case 'delta':
        this.position = message.position
        return this.change(message.changes)
      default:
        return undefined
    }
  }

  private complete(): RowsEvent<Row> | undefined {
    if (this.gathered === undefined) return undefined
    this.rows = this.gathered
    this.gathered = undefined
    return { type: 'reset' }
  }

  private change(
    changes: readonly { readonly op: 'upsert' | 'delete'; readonly row: LiveRow }[],
  ): RowsEvent<Row> | undefined {
    const rows = this.rows as Map<string, Row>
    const upserts: Row[] = []
    const deletes: Row[] = []
    for (const { op, row } of changes) {
      if (op === 'upsert') {
        rows.set(this.identity(row), row as Row)
        upserts.push(row as Row)
      } else if (rows.delete(this.identity(row))) {
        deletes.push(row as Row)
      }
    }
    return changes.length === 0 ? undefined : { type: 'changes', upserts, deletes }
  }

  private identity(row: LiveRow): string {
    return JSON.stringify(this.key.map(name => row[name]))
  }
}
