/**
 * A cut: the committed state after one epoch, with the position and watermarks that belong to
 * it. Queries and subscriptions read a cut, never the running epoch (law 19). The current cut
 * is replaced at each publish; a cut that is still being read lives until it is released.
 */
import type { Snapshot } from '../log/database.ts'
import { assert } from './errors.ts'
import type { Offsets } from './position.ts'

export class Cut {
  readonly snapshot: Snapshot
  /** Counts the cuts of an engine. */
  readonly number: number
  readonly offsets: Offsets
  /** What a task that runs here covers, by its name. */
  readonly covered: (task: string) => Offsets
  /** The position token. */
  readonly position: string
  /** Watermark of each view's step, by view name and partition. */
  readonly watermarks: ReadonlyMap<string, ReadonlyMap<number, number>>
  /** All views show one cut of the input (law 17). */
  readonly consistent: boolean
  #readers = 1

  constructor(options: Omit<Cut, 'retain' | 'release'>) {
    this.snapshot = options.snapshot
    this.number = options.number
    this.offsets = options.offsets
    this.covered = options.covered
    this.position = options.position
    this.watermarks = options.watermarks
    this.consistent = options.consistent
  }

  retain(): this {
    assert(this.#readers > 0, 'a released cut is not read again')
    this.#readers++
    return this
  }

  release(): void {
    assert(this.#readers > 0, 'a cut is released once by each reader')
    if (--this.#readers === 0) void this.snapshot.release()
  }
}
