/**
 * `NAME.mrec.lock`, version 1: `pid NEWLINE bootId NEWLINE`. It is there while a process writes the
 * recording, as two would write the same records one behind the other. A killed process leaves it
 * behind: it counts only while that process lives.
 */
import { readFile, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { bootId } from './effects.ts'
import { cliError } from './errors.ts'

/** Of this process. */
const held = new Set<string>()

/** Resolves with what releases it. Rejects with RECORDING_IN_USE or FILE_UNWRITABLE. */
export async function lockRecording(path: string): Promise<() => Promise<void>> {
  const lock = `${await realpath(path)}.lock`
  while (!(await take(lock))) {
    const found = await reading(lock)
    if (found === undefined) continue
    if (isHeld(found, lock) || !(await takeAway(lock, found))) {
      throw cliError('RECORDING_IN_USE', { path, pid: found.split('\n')[0] || '?', lock })
    }
  }
  held.add(lock)
  return async () => {
    held.delete(lock)
    await rm(lock, { force: true })
  }
}

/** Undefined where it is gone again. */
async function reading(lock: string): Promise<string | undefined> {
  try {
    return await readFile(lock, 'utf8')
  } catch (error) {
    if (isGone(error)) return undefined
    throw unusable(lock, error)
  }
}

function isGone(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

function unusable(lock: string, error: unknown): Error {
  const { message } = error as Error
  return cliError('FILE_UNWRITABLE', { path: lock, reason: message }, { cause: error })
}

async function take(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, `${process.pid}\n${bootId()}\n`, { flag: 'wx' })
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return false
    // Where the disk is full it is made, and stays empty.
    if (code === 'ENOSPC') await rm(lock, { force: true })
    throw unusable(lock, error)
  }
}

function isHeld(text: string, lock: string): boolean {
  const [pid = '', boot] = text.split('\n')
  // Being written at this moment.
  if (boot === undefined || !/^\d+$/.test(pid)) return true
  if (boot !== bootId()) return false
  if (Number(pid) === process.pid) return held.has(lock)
  try {
    process.kill(Number(pid), 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Removes a dead process's; false where another has put its own there meanwhile. */
async function takeAway(lock: string, text: string): Promise<boolean> {
  const aside = `${lock}.${process.pid}`
  try {
    await rename(lock, aside)
  } catch (error) {
    if (isGone(error)) return true
    throw unusable(lock, error)
  }
  if ((await readFile(aside, 'utf8')) === text) {
    await rm(aside)
    return true
  }
  await rename(aside, lock)
  return false
}
