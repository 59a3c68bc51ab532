/** A recording's file on the disk. */
import { type FileHandle, open, rm } from 'node:fs/promises'
import type { RecordingFile } from '../recording/port.ts'
import { cliError } from './errors.ts'
import { lockRecording } from './recording-lock.ts'

/** Opens a recording to read it. Rejects with FILE_UNREADABLE. */
export function openRecordingFile(path: string): Promise<RecordingFile> {
  return openFile(path, 'r', 'FILE_UNREADABLE')
}

/** Opens one to go on with it. Rejects with FILE_UNREADABLE or RECORDING_IN_USE. */
export function reopenRecordingFile(path: string): Promise<RecordingFile> {
  return openFile(path, 'r+', 'FILE_UNREADABLE')
}

/** Makes a new one. Rejects with FILE_UNWRITABLE, also where there is one. */
export function createRecordingFile(path: string): Promise<RecordingFile> {
  return openFile(path, 'wx+', 'FILE_UNWRITABLE')
}

async function openFile(
  path: string,
  flags: string,
  code: 'FILE_UNREADABLE' | 'FILE_UNWRITABLE',
): Promise<RecordingFile> {
  let handle: FileHandle
  try {
    handle = await open(path, flags)
    if ((await handle.stat()).isDirectory()) {
      await handle.close()
      throw new Error('it is a folder')
    }
  } catch (error) {
    const { code: reasonCode, message } = error as NodeJS.ErrnoException
    const reason = reasonCode === 'EEXIST' ? 'it exists already' : message
    throw cliError(code, { path, reason }, { cause: error })
  }
  try {
    const release = flags === 'r' ? async () => {} : await lockRecording(path)
    return new DiskFile(path, handle, release)
  } catch (error) {
    await handle.close()
    if (flags === 'wx+') await rm(path, { force: true })
    throw error
  }
}

class DiskFile implements RecordingFile {
  readonly path: string
  readonly #handle: FileHandle
  readonly #release: () => Promise<void>

  constructor(path: string, handle: FileHandle, release: () => Promise<void>) {
    this.path = path
    this.#handle = handle
    this.#release = release
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size
  }

  async read(position: number, length: number): Promise<Buffer> {
    const room = Math.max(0, Math.min(length, (await this.size()) - position))
    const bytes = Buffer.allocUnsafeSlow(room)
    let filled = 0
    while (filled < room) {
      const { bytesRead } = await this.#handle.read(bytes, filled, room - filled, position + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return bytes.subarray(0, filled)
  }

  async append(bytes: Buffer): Promise<void> {
    const end = await this.size()
    for (let written = 0; written < bytes.length; ) {
      const left = bytes.length - written
      written += (await this.#handle.write(bytes, written, left, end + written)).bytesWritten
    }
  }

  truncate(size: number): Promise<void> {
    return this.#handle.truncate(size)
  }

  sync(): Promise<void> {
    return this.#handle.sync()
  }

  async close(): Promise<void> {
    try {
      await this.#handle.close()
    } finally {
      await this.#release()
    }
  }
}
