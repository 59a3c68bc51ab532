/** What a stream join has at hand of the record it joins, and of each of its sides. */
import type { KeyColumn } from '../state/key-column.ts'
import type { AppendStore, ByteRange, RowKey, Screening } from '../state/port.ts'
import type { Batch } from './batch.ts'
import type { Outputs } from './operator.ts'
import type { KeySerde, ValueSerde } from './serde.ts'

/** What one side of the join is: where its rows are and how far they reach. */
export interface Side {
  readonly port: 0 | 1
  readonly rows: AppendStore
  readonly value: ValueSerde<unknown>
  /** How much earlier than a row its first possible partner can be. */
  readonly behindMs: number
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

/** Points `value` to the record's value: as it was read, or encoded when it was made here. */
export function readValue(
  value: ByteRange,
  input: Batch,
  i: number,
  serde: ValueSerde<unknown>,
): void {
  if (input.rawValues) {
    const row = input.rows[i]!
    const columns = input.columns!
    value.bytes = columns.bytes
    value.start = columns.valueStart[row]!
    value.end = columns.valueEnd[row]!
  } else {
    value.bytes = serde.encode(input.values[i])
    value.start = 0
    value.end = value.bytes.length
  }
}

/** Takes the keys of a batch as bytes, as they were read while they are in this serde's format. */
export function readKeys(keys: KeyColumn, input: Batch, serde: KeySerde<unknown>): void {
  const raw = input.rawKeys === serde.name ? input.columns : undefined
  keys.begin(input.length, raw?.bytes)
  for (let i = 0; i < input.length; i++) {
    const key = input.keys[i]
    if (key === null || key === undefined) continue
    if (raw === undefined) keys.set(i, serde.encode(key))
    else {
      const row = input.rows[i]!
      keys.setRaw(i, raw.keyStart[row]!, raw.keyEnd[row]!)
    }
  }
}

/** Records screened at a time: what they touch stays in the first caches. */
const SCREEN_RECORDS = 64

/** Which records of a batch may have a partner at all. */
export class JoinScreening implements Screening {
  hashes = new Int32Array(0)
  hits = new Uint8Array(0)
  first = 0
  end = 0
  fromMs = 0
  toMs = 0

  /** Sets `hits` for the next records from `first` on; returns up to where. */
  screen({ input, side, other }: Joining, keys: KeyColumn, first: number): number {
    const { times, length } = input
    const end = Math.min(first + SCREEN_RECORDS, length)
    let earliestMs = Number.POSITIVE_INFINITY
    let latestMs = Number.NEGATIVE_INFINITY
    for (let i = first; i < end; i++) {
      earliestMs = Math.min(earliestMs, times[i]!)
      latestMs = Math.max(latestMs, times[i]!)
    }
    this.hashes = keys.hashes
    if (this.hits.length < end) this.hits = new Uint8Array(length)
    this.hits.fill(0, first, end)
    this.first = first
    this.end = end
    this.fromMs = earliestMs - side.behindMs
    this.toMs = latestMs + side.reachMs
    other.rows.screen(this)
    return end
  }
}
