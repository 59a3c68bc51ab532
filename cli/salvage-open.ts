/**
 * Opens a damaged database, in a copy of its directory that may be changed:
 *
 *     damaged                    what is opened
 *     the write-ahead log        its readable prefix
 *     CURRENT                    the newest manifest, which is all that it names
 *     the manifest               the version before the damaged entry
 *     the frame of a table       the last version without it
 *
 * The last two go back in time, to a moment at which a memtable was written out: everything is as
 * it was then, log, offsets and state. What cannot be read inside of a table is not met here.
 */
import { readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32c } from '../log/crc32c.ts'
import { reasonOf } from '../log/errors.ts'
import { openRocksDB, type RocksDBDatabase } from '../state/rocksdb.ts'
import { cliError } from './errors.ts'

const TABLES_MAX = 32

/** Throws SALVAGE_IMPOSSIBLE. */
export async function openDamaged(path: string): Promise<RocksDBDatabase> {
  await mendCurrent(path)
  let goBack = false
  for (let tries = 0; ; tries++) {
    try {
      return await openRocksDB(path, { salvage: true, goBack })
    } catch (cause) {
      const reason = reasonOf(cause)
      goBack = tries < TABLES_MAX && (await leaveOut(path, reason))
      if (goBack) continue
      const database = await openWithoutOne(path)
      if (database !== undefined) return database
      throw cliError('SALVAGE_IMPOSSIBLE', { reason }, { cause })
    }
  }
}

/** Not every damage names its table: the newest ones are left out in turn. */
async function openWithoutOne(path: string): Promise<RocksDBDatabase | undefined> {
  const tables = (await readdir(path)).filter(name => name.endsWith('.sst')).sort()
  for (const table of tables.slice(-TABLES_MAX).reverse()) {
    const file = join(path, table)
    await rename(file, `${file}.out`)
    try {
      return await openRocksDB(path, { salvage: true, goBack: true })
    } catch {
      await rename(`${file}.out`, file)
    }
  }
  return undefined
}

/** CURRENT only names the newest manifest. */
async function mendCurrent(path: string): Promise<void> {
  const newest = await newestManifest(path)
  if (newest !== undefined) await writeFile(join(path, 'CURRENT'), `${newest}\n`)
}

async function newestManifest(path: string): Promise<string | undefined> {
  const names = await readdir(path)
  return names
    .filter(name => /^MANIFEST-\d+$/.test(name))
    .sort()
    .at(-1)
}

/** Takes away what keeps the database from being opened. False when there is nothing to try. */
async function leaveOut(path: string, reason: string): Promise<boolean> {
  const [table] = /\d+\.(sst|blob)\b/.exec(reason) ?? []
  if (table !== undefined && (await readdir(path)).includes(table)) {
    await rm(join(path, table))
    return true
  }
  const manifest = await newestManifest(path)
  return manifest !== undefined && (await cutManifest(join(path, manifest)))
}

const BLOCK_BYTES = 32 * 1024
const HEADER_BYTES = 7

/**
 * Cuts a manifest before its first damaged record. It is a RocksDB log: blocks of 32 KiB with
 * records of `crc:uint32 length:uint16 type:uint8 bytes`, little-endian. False when it is whole,
 * or when nothing would be left.
 */
async function cutManifest(file: string): Promise<boolean> {
  const bytes = await readFile(file)
  let position = 0
  while (position + HEADER_BYTES <= bytes.length) {
    const left = BLOCK_BYTES - (position % BLOCK_BYTES)
    if (left < HEADER_BYTES) {
      position += left
      continue
    }
    const end = position + HEADER_BYTES + bytes.readUInt16LE(position + 4)
    const fits = end <= bytes.length && end - position <= left
    if (!fits || bytes.readUInt32LE(position) !== maskedCrc(bytes, position + 6, end)) break
    position = end
  }
  if (position === 0 || position === bytes.length) return false
  await truncate(file, position)
  return true
}

/** RocksDB's masking: a CRC of bytes that hold CRCs. */
function maskedCrc(bytes: Buffer, start: number, end: number): number {
  const crc = crc32c(bytes, start, end)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}
