/** A file that is written beside its place and put there when it is whole. */
import { access, link, rename, rm } from 'node:fs/promises'
import { MillraceError } from '../log/errors.ts'
import { cliError } from './errors.ts'

/** What the system was asked for when it refused to write; other errors are of what is read. */
const WRITING = new Set(['open', 'write', 'close', 'ftruncate', 'fsync', 'link', 'rename'])

/**
 * `write` gets a path to write to; when it fails, nothing of the file stays. Rejects with
 * FILE_UNWRITABLE, also where there is a file.
 */
export async function writeWhole<T>(path: string, write: (path: string) => Promise<T>): Promise<T> {
  const isThere = () => cliError('FILE_UNWRITABLE', { path, reason: 'it exists already' })
  if (await exists(path)) throw isThere()
  // Of this process alone; who is killed leaves it behind.
  const partial = `${path}.${process.pid}.partial`
  try {
    const result = await write(partial)
    await place(partial, path)
    return result
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw isThere()
    throw unwritable(error, path, partial)
  } finally {
    await rm(partial, { force: true }).catch(() => {})
  }
}

/** Unlike a rename it replaces no file that was made meanwhile. */
async function place(partial: string, path: string): Promise<void> {
  try {
    await link(partial, path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS') throw error
    // The file system has no links.
    await rename(partial, path)
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** FILE_UNWRITABLE where the error is that something could not be written, otherwise itself. */
export function unwritable(error: unknown, path: string, partial = path): unknown {
  const { syscall, message } = error as NodeJS.ErrnoException
  const isOurs = error instanceof MillraceError
  const isWriting = isOurs
    ? ['RECORDING_WRITE_FAILED', 'FILE_UNWRITABLE'].includes(error.code)
    : WRITING.has(syscall ?? '')
  if (!isWriting) return error
  const reason = String(isOurs ? error.details.reason : message).replaceAll(partial, path)
  return cliError('FILE_UNWRITABLE', { path, reason }, { cause: error })
}
