/**
 * The latest change of each recently changed row of a view, and when it was: what a client
 * that is behind has missed, whatever the reason (a slow line, a snapshot being read, a lost
 * connection). One such record serves all of them, so a slow client costs no memory of its
 * own. Bounded in rows and in positions; who is behind its start must fetch anew.
 */
import { assert } from '../streams/errors.ts'
import type { ViewChange } from '../streams/views.ts'

interface Entry {
  readonly sequence: number
  readonly change: ViewChange
}

export class RecentChanges {
  /** Number of the last publication; the state before the first is 0. */
  sequence = 0
  position: string
  /** By row identity, least recently changed first. */
  private readonly entries = new Map<string, Entry>()
  private readonly sequences = new Map<string, number>()
  /** Those of the last publication, whole: who was up to date never needs more. */
  private latest: ViewChange[] = []
  private begunAnew = false
  /** Changes up to this sequence may be missing. */
  private floor = 0
  private readonly rowsMax: number
  private readonly positionsMax: number

  constructor(position: string, bounds: { rowsMax: number; positionsMax: number }) {
    this.position = position
    this.rowsMax = bounds.rowsMax
    this.positionsMax = bounds.positionsMax
    this.sequences.set(position, 0)
  }

  /** Takes the changes between the last position and this one, by row identity. */
  publish(position: string, changes: ReadonlyMap<string, ViewChange>): void {
    this.sequence++
    this.position = position
    this.latest = [...changes.values()]
    this.begunAnew = false
    for (const [identity, change] of changes) {
      this.entries.delete(identity)
      this.entries.set(identity, { sequence: this.sequence, change })
    }
    for (const [identity, entry] of this.entries) {
      if (this.entries.size <= this.rowsMax) break
      this.entries.delete(identity)
      this.floor = entry.sequence
    }
    // Of several publications at one position, a client may have missed all but the first.
    if (!this.sequences.has(position)) this.sequences.set(position, this.sequence)
    for (const oldest of this.sequences.keys()) {
      if (this.sequences.size <= this.positionsMax) break
      this.sequences.delete(oldest)
    }
    assert(this.entries.size <= this.rowsMax, 'recent changes are bounded')
  }

  /** Updates may be missing: whoever has an older state must fetch anew. */
  reset(position: string): void {
    this.sequence++
    this.position = position
    this.latest = []
    this.entries.clear()
    this.sequences.clear()
    this.floor = this.sequence
    this.begunAnew = true
  }

  /** The first publication that ended at this position, while it is known. */
  sequenceOf(position: string): number | undefined {
    return this.sequences.get(position)
  }

  /** The latest change of every row changed after the sequence; undefined when some are gone. */
  since(sequence: number): ViewChange[] | undefined {
    if (sequence === this.sequence) return []
    if (sequence === this.sequence - 1 && !this.begunAnew) return this.latest
    if (sequence < this.floor) return undefined
    const changes: ViewChange[] = []
    for (const entry of this.entries.values()) {
      if (entry.sequence > sequence) changes.push(entry.change)
    }
    return changes
  }
}
