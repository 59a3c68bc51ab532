/** What a stream join has at hand of the record it joins, and of each of its sides. */
import type { AppendRow, AppendStore, RowKey } from '../state/port.ts'
import type { Batch } from './batch.ts'
import type { Outputs } from './operator.ts'
import type { ValueSerde } from './serde.ts'

/** What one side of the join is: where its rows are and how far they reach. */
export interface Side {
  readonly port: 0 | 1
  readonly rows: AppendStore
  readonly value: ValueSerde<unknown>
  /** How much later than a row its last possible partner can be. */
  readonly reachMs: number
  /** Rows of this side wait in the pending store until they have a partner. */
  readonly pending: boolean
  /** A row without partner is a result. */
  readonly outer: boolean
}

interface JoiningBatch {
  readonly input: Batch
  readonly side: Side
  readonly other: Side
  readonly results: Batch
  readonly out: Outputs
}

/** The record being joined: one object for all, as there may be a million a second. */
export class Joining {
  input!: Batch
  side!: Side
  other!: Side
  results!: Batch
  out!: Outputs
  i = 0
  boundMs = 0
  keptMs = 0
  key: RowKey = ''
  matched = false

  begin(batch: JoiningBatch): void {
    this.input = batch.input
    this.side = batch.side
    this.other = batch.other
    this.results = batch.results
    this.out = batch.out
  }
}

/** The record's value bytes as they were read, or encoded when the value was made here. */
export function valueBytes(
  input: Batch,
  i: number,
  serde: ValueSerde<unknown>,
): AppendRow['value'] {
  if (input.rawValues) {
    const row = input.rows[i]!
    const { columns } = input
    return { bytes: columns!.bytes, start: columns!.valueStart[row]!, end: columns!.valueEnd[row]! }
  }
  const bytes = serde.encode(input.values[i])
  return { bytes, start: 0, end: bytes.length }
}
