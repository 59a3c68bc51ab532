/**
 * The rows of one store that are in memory: one entry a key, with what the row is in this epoch
 * (`dirty`), in the one being committed (`sealed`) and in the database (`known`).
 */
import type { RowKey } from './port.ts'

/** Nothing is known of this state of a row. */
export const NONE = Symbol('none')
export const DELETED = Symbol('deleted')

export interface Entry<V> {
  readonly key: RowKey
  dirty: V | typeof DELETED | typeof NONE
  sealed: V | typeof DELETED | typeof NONE
  /** Undefined: there is no row. */
  known: V | undefined | typeof NONE
  /** Heap that `known` costs, about. */
  bytes: number
  /** Since the last round of `trim`. */
  used: boolean
  /** Somebody asked for it by its key, and may again. */
  isRead: boolean
}

/**
 * Heap that an entry costs beside the bytes of its key, and a value beside those of its row:
 * measured with numbers, sums of two fields, texts and objects of six fields (221 to 349 B a row,
 * 12 % less to 6 % more than is counted). What is not collected yet comes on top.
 */
const ENTRY_OVERHEAD = 150
const VALUE_OVERHEAD = 80

export class RowEntries<V> {
  readonly #entries = new Map<RowKey, Entry<V>>()
  dirty: Entry<V>[] = []
  sealed: Entry<V>[] = []
  /** Of known rows. */
  bytes = 0
  count = 0

  get(key: RowKey): Entry<V> | undefined {
    return this.#entries.get(key)
  }

  /** The entry of a key, made when there is none. */
  of(key: RowKey): Entry<V> {
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      const nothing = { dirty: NONE, sealed: NONE, known: NONE } as const
      entry = { key, ...nothing, bytes: 0, used: false, isRead: false }
      this.#entries.set(key, entry)
    }
    return entry
  }

  write(key: RowKey, value: V | typeof DELETED): void {
    const entry = this.of(key)
    if (entry.dirty === NONE) this.dirty.push(entry)
    entry.dirty = value
  }

  /** Takes what the database has; `length` is that of the row's bytes. */
  know(entry: Entry<V>, value: V | undefined, length: number): void {
    if (entry.known === NONE) this.count++
    const valueBytes = value === undefined ? 0 : length + VALUE_OVERHEAD
    const bytes = entry.key.length + ENTRY_OVERHEAD + valueBytes
    this.bytes += bytes - entry.bytes
    entry.bytes = bytes
    entry.known = value
    entry.used = true
  }

  #forget(entry: Entry<V>): void {
    if (entry.known !== NONE) this.count--
    this.bytes -= entry.bytes
    entry.bytes = 0
    entry.known = NONE
    if (entry.dirty === NONE && entry.sealed === NONE) this.#entries.delete(entry.key)
  }

  seal(): readonly Entry<V>[] {
    const { dirty } = this
    this.dirty = []
    this.sealed = dirty
    for (const entry of dirty) {
      entry.sealed = entry.dirty
      entry.dirty = NONE
    }
    return dirty
  }

  /**
   * The sealed rows are in the database; `lengthOf` gives those of their bytes. Rows that nobody
   * reads by key, such as timers, are not remembered when they are gone.
   */
  applied(lengthOf: (i: number) => number): void {
    const { sealed } = this
    this.sealed = []
    for (let i = 0; i < sealed.length; i++) {
      const entry = sealed[i]!
      const value = entry.sealed
      entry.sealed = NONE
      if (value !== DELETED) this.know(entry, value as V, lengthOf(i))
      else if (entry.isRead) this.know(entry, undefined, 0)
      else this.#forget(entry)
    }
  }

  /** Forgets rows not used since the last round, until the rest fits. */
  trim(bytesMax: number): void {
    for (const [key, entry] of this.#entries) {
      if (this.bytes <= bytesMax) return
      // Written and not in the database yet, or being read.
      if (entry.dirty !== NONE || entry.sealed !== NONE || entry.known === NONE) continue
      if (entry.used) {
        entry.used = false
        this.#entries.delete(key)
        this.#entries.set(key, entry)
      } else this.#forget(entry)
    }
  }

  clear(): void {
    this.#entries.clear()
    this.dirty = []
    this.sealed = []
    this.bytes = 0
    this.count = 0
  }
}

/** The newest state; NONE when the row is not in memory. */
export function newest<V>({ dirty, sealed, known }: Entry<V>) {
  if (dirty !== NONE) return dirty
  return sealed !== NONE ? sealed : known
}
