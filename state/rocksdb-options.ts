/** How a RocksDB is opened. */
import type { DatabaseOwner } from './rocksdb-owner.ts'

/** RocksDB's `WALRecoveryMode`: what is taken for an end of the write-ahead log. */
const WAL_RECOVERY = {
  /** Its last record may be cut off, as a kill can leave it; anything else is damage. */
  tornTail: 0,
  /** It was closed, so all of it must be readable. */
  whole: 1,
  /** The first record that cannot be read: a power cut leaves the rest in any state. */
  prefix: 2,
} as const

export interface RocksDBOptions {
  /** Memtable size, bytes; two of them are held at most while one is being written out. */
  readonly writeBufferBytes?: number
  /** Values at least this large go to blob files, which compaction does not rewrite. */
  readonly blobBytesMin?: number
  /** Size of one blob file: what is freed at once when its values are deleted. */
  readonly blobFileBytes?: number
  /**
   * Who opens it: named to the next process that finds the database locked, and to one that finds
   * it not closed. Without it, nothing is known of how the last process ended.
   */
  readonly owner?: DatabaseOwner
  /** Takes a prefix of a damaged write-ahead log, whatever ended the last process. */
  readonly salvage?: boolean
  /** Goes back to the latest version of which all files are there, without what came after it. */
  readonly goBack?: boolean
  /** Changes nothing on the disk, and does not lock. */
  readonly readOnly?: boolean
}

/** Acknowledged commits may be missing only where the machine went down under the last process. */
function walRecovery({ owner, salvage }: RocksDBOptions, before: DatabaseOwner | undefined) {
  if (salvage) return WAL_RECOVERY.prefix
  if (owner === undefined) return WAL_RECOVERY.tornTail
  if (before === undefined) return WAL_RECOVERY.whole
  const isSameRun = before.bootId !== '' && before.bootId === owner.bootId
  return isSameRun ? WAL_RECOVERY.tornTail : WAL_RECOVERY.prefix
}

/** As the binding takes them; `before`: who had the database open last and did not close it. */
export function nativeOptions(options: RocksDBOptions, before: DatabaseOwner | undefined): object {
  return {
    readOnly: options.readOnly ?? false,
    bestEffortsRecovery: options.goBack ?? false,
    walRecoveryMode: walRecovery(options, before),
    writeBufferSize: options.writeBufferBytes ?? 32 << 20,
    enableBlobFiles: (options.blobBytesMin ?? 16 << 10) > 0,
    minBlobSize: options.blobBytesMin ?? 16 << 10,
    blobFileSize: options.blobFileBytes ?? 64 << 20,
    enableBlobGarbageCollection: true,
    maxBackgroundJobs: 2,
    skipStatsUpdateOnOpen: true,
  }
}
