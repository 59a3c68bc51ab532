/** What RocksDB's words mean: it tells damage, a lock and the rest only by its messages. */
import type { Entry, ScanRange } from '../log/database.ts'
import { type MillraceError, stateError } from './errors.ts'
import { keyText } from './keys.ts'

/** Says what to install when the native library does not load. */
export function nativeLoadError(error: Error): MillraceError {
  const causes = [error, ...((error as Error & { causes?: Error[] }).causes ?? []), error.cause]
  const reason = causes
    .map(cause => (cause instanceof Error ? cause.message : ''))
    .filter(message => message !== '')
    .join('; ')
  const hint = reason.includes('libatomic')
    ? 'On Debian and Ubuntu install the package libatomic1 (`apt-get install libatomic1`), on Fedora libatomic.'
    : 'It has binaries for Linux (glibc), macOS and Windows on x64 and arm64: check that node_modules was installed on this platform.'
  return stateError('DATABASE_NATIVE_MISSING', { reason, hint }, { cause: error })
}

/** `ownerPid`: who has it open, as far as is known. */
export function openError(path: string, error: Error, ownerPid?: number): MillraceError {
  const reason = error.message
  if (/lock file|lock hold|LOCK:/.test(reason)) {
    const owner = ownerPid ? ` (pid ${ownerPid})` : ''
    return stateError('DATABASE_LOCKED', { path, owner }, { cause: error })
  }
  if (isCorruption(error)) {
    return stateError('DATABASE_CORRUPT', { path, where: '', reason }, { cause: error })
  }
  return stateError('DATABASE_OPEN_FAILED', { path, reason }, { cause: error })
}

/** RocksDB names the damage only in its words. */
function isCorruption(error: Error): boolean {
  return /corrupt|checksum|CRC mismatch|block mismatch|bad record|truncated|CURRENT|MANIFEST|magic number|Compressed block|no such file.*\.(sst|blob)/i.test(
    error.message,
  )
}

/** `where`: the keys being read, as ` between … and …`. */
export function accessError(
  code: 'DATABASE_READ_FAILED' | 'DATABASE_WRITE_FAILED',
  { path, where, error }: { path: string; where: string; error: Error },
): MillraceError {
  const named = isCorruption(error) ? 'DATABASE_CORRUPT' : code
  return stateError(named, { path, where, reason: error.message }, { cause: error })
}

/** Where a scan stands: behind the last entry it gave. */
export function scanPlace({ gte, lt, reverse }: ScanRange, last: Entry | undefined): string {
  if (last === undefined) return keyPlace(gte, lt)
  return reverse ? keyPlace(gte, last.key) : keyPlace(last.key, lt)
}

export function keyPlace(first: Uint8Array, last: Uint8Array): string {
  return ` between the keys ${keyText(first)} and ${keyText(last)}`
}

export function keysPlace(keys: readonly Uint8Array[]): string {
  const sorted = [...keys].sort(Buffer.compare)
  return keyPlace(sorted[0]!, sorted.at(-1)!)
}
