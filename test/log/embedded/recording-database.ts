/** Databases for tests of failure: one whose writes can be refused, lost or held back. */
import type { Database, Entry, ScanRange, Snapshot, WriteBatch } from '../../../log/database.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'

type Operation = (batch: WriteBatch) => void

/** Passes everything on and keeps each committed batch, in order. */
export class RecordingDatabase implements Database {
  readonly committed: Operation[][] = []
  /** How many of `committed` were synced. */
  synced = 0
  /** Rejects a commit that is about to be written. */
  refuse: (() => Error | undefined) | undefined
  /** Rejects reads. */
  failReads = false
  /** Awaited before each write. */
  hold: Promise<void> | undefined
  readonly #inner: Database

  constructor(inner: Database = new MemoryDatabase()) {
    this.#inner = inner
  }

  get openHandles(): number {
    return this.#inner.openHandles
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Buffer | null)[]> {
    return this.#inner.getMany(keys)
  }

  scan(range: ScanRange): AsyncIterable<readonly Entry[]> {
    if (this.failReads) throw new Error('read failed')
    return this.#inner.scan(range)
  }

  batch(): WriteBatch {
    const inner = this.#inner.batch()
    const operations: Operation[] = []
    const add = (operation: Operation) => {
      operations.push(operation)
      operation(inner)
    }
    return {
      put: (key, value) => {
        const bytes = Buffer.from(value)
        add(batch => batch.put(key, bytes))
      },
      delete: key => add(batch => batch.delete(key)),
      deleteRange: (start, end) => add(batch => batch.deleteRange(start, end)),
      get size() {
        return inner.size
      },
      commit: async () => {
        await this.hold
        const error = this.refuse?.()
        if (error) throw error
        await inner.commit()
        this.committed.push(operations)
      },
      discard: () => inner.discard(),
    }
  }

  snapshot(): Snapshot {
    return this.#inner.snapshot()
  }

  async sync(): Promise<void> {
    this.synced = this.committed.length
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  /** What a power cut leaves: the first `batches` commits, at least those synced. */
  async afterPowerCut(batches: number): Promise<RecordingDatabase> {
    const after = new RecordingDatabase()
    for (const operations of this.committed.slice(0, Math.max(batches, this.synced))) {
      const batch = after.batch()
      for (const operation of operations) operation(batch)
      await batch.commit()
    }
    after.synced = after.committed.length
    return after
  }
}
