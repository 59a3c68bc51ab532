/**
 * The file `OWNER` in a database's directory, version 2: `pid NEWLINE bootId NEWLINE`. It is there
 * while a process has the database open, so one that is found at open tells how the last one
 * ended: killed, or with the machine. Version 1 was the pid alone.
 */
import { open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'

export interface DatabaseOwner {
  readonly pid: number
  /** Changes when the machine starts anew; empty when that is not known. */
  readonly bootId: string
}

const pathOf = (directory: string) => join(directory, 'OWNER')

/** Who has, or had, the database open; undefined when it was closed. */
export async function readOwner(directory: string): Promise<DatabaseOwner | undefined> {
  const text = await readFile(pathOf(directory), 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const [pid = '', bootId = ''] = text.split('\n')
  return { pid: /^\d+$/.test(pid) ? Number(pid) : 0, bootId }
}

/** On the disk when it resolves: a power cut must find it. */
export async function writeOwner(directory: string, { pid, bootId }: DatabaseOwner): Promise<void> {
  const file = await open(pathOf(directory), 'w')
  try {
    await file.writeFile(`${pid}\n${bootId}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await syncDirectory(directory)
}

/** Makes the entries of new files survive a power cut. Windows has no such thing to open. */
export async function syncDirectory(directory: string): Promise<void> {
  const folder = await open(directory, 'r').catch(() => null)
  await folder?.sync().catch(() => {})
  await folder?.close()
}

export async function removeOwner(directory: string): Promise<void> {
  await rm(pathOf(directory), { force: true })
}
