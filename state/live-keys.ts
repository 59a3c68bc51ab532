/**
 * The keys of a store's rows that lie above a bound, in order: what is to be deleted there is known
 * without asking the database. Rows that begin with a time are soon all above any bound.
 */
import type { RowKey, RowRange } from './port.ts'
import { lowerBound } from './sorted-keys.ts'

/** From a key on, upwards. */
export type KeysFrom = Pick<RowRange, 'lt' | 'limit'> & { readonly gte: RowKey }

/** Keys of one run at most: what an insertion may move. */
const RUN_KEYS_MAX = 512
/** More are not worth their memory, some 60 bytes each: few of a close would be looked for. */
export const LIVE_KEYS_MAX = 4_096

export class LiveKeys {
  readonly #bound: RowKey
  /** Sorted keys, none of the runs empty, each before the next. */
  readonly #runs: RowKey[][] = []
  #count = 0

  /** Every key above `bound` is added before its row can be in the database. */
  constructor(bound: RowKey) {
    this.#bound = bound
  }

  /** All keys from `gte` on are known. */
  covers(gte: RowKey): boolean {
    return gte > this.#bound
  }

  /** False when there are too many: from then on they are not known any more. */
  add(key: RowKey): boolean {
    if (key <= this.#bound) return true
    const at = Math.max(this.#runAt(key), 0)
    const run = (this.#runs[at] ??= [])
    const i = lowerBound(run, key)
    if (run[i] === key) return true
    if (this.#count === LIVE_KEYS_MAX) return false
    run.splice(i, 0, key)
    this.#count++
    if (run.length > RUN_KEYS_MAX) this.#runs.splice(at + 1, 0, run.splice(RUN_KEYS_MAX / 2))
    return true
  }

  delete(key: RowKey): void {
    const at = this.#runAt(key)
    const run = this.#runs[at]
    if (run === undefined) return
    const i = lowerBound(run, key)
    if (run[i] !== key) return
    run.splice(i, 1)
    this.#count--
    if (run.length === 0) this.#runs.splice(at, 1)
  }

  /** The first keys of a range whose `gte` is covered. */
  range({ gte, lt, limit }: KeysFrom): RowKey[] {
    const keys: RowKey[] = []
    for (let at = Math.max(this.#runAt(gte), 0); at < this.#runs.length; at++) {
      const run = this.#runs[at]!
      for (let i = lowerBound(run, gte); i < run.length; i++) {
        const key = run[i]!
        if (keys.length === limit || (lt !== undefined && key >= lt)) return keys
        keys.push(key)
      }
    }
    return keys
  }

  /** The last run that begins at or before the key, or -1. */
  #runAt(key: RowKey): number {
    let low = 0
    let high = this.#runs.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#runs[middle]![0]! <= key) low = middle + 1
      else high = middle
    }
    return low - 1
  }
}
