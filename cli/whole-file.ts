/** A file that is written beside its place and put there when it is whole. */
import { access, rename, rm } from 'node:fs/promises'
import { MillraceError } from '../log/errors.ts'
import { cliError } from './errors.ts'

/** What the system was asked for when it refused to write; other errors are of what is read. */
const WRITING = new Set(['open', 'write', 'close', 'ftruncate', 'fsync', 'rename'])

/**
 * `write` gets a path to write to; when it fails, nothing of the file stays. Rejects with
 * FILE_UNWRITABLE, also where there is a file.
 */
export async function writeWhole<T>(path: string, write: (path: string) => Promise<T>): Promise<T> {
  if (await exists(path)) {
    throw cliError('FILE_UNWRITABLE', { path, reason: 'it exists already' })
  }
  // One of this name was left by a process that was killed.
  const partial = `${path}.partial`
  try {
    const result = await write(partial)
    await rename(partial, path)
    return result
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {})
    throw unwritable(error, path)
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** FILE_UNWRITABLE where the error is that something could not be written, otherwise itself. */
export function unwritable(error: unknown, path: string): unknown {
  const { syscall, message } = error as NodeJS.ErrnoException
  if (error instanceof MillraceError) {
    if (error.code !== 'RECORDING_WRITE_FAILED') return error
    return cliError('FILE_UNWRITABLE', { path, reason: error.details.reason }, { cause: error })
  }
  if (!WRITING.has(syscall ?? '')) return error
  return cliError('FILE_UNWRITABLE', { path, reason: message }, { cause: error })
}
