import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openRocksDB } from '../../state/rocksdb.ts'
import { nativeLoadError } from '../../state/rocksdb-errors.ts'
import { databaseSuite } from './database.suite.ts'

const newDirectory = (): Promise<string> => mkdtemp(join(tmpdir(), 'millrace-rocksdb-'))

databaseSuite('RocksDB', async () => {
  const path = await newDirectory()
  return {
    open: () => openRocksDB(path),
    reopen: () => openRocksDB(path),
    dispose: () => rm(path, { recursive: true, force: true }),
  }
})

describe('RocksDB on its directory', () => {
  let path: string

  beforeEach(async () => {
    path = await newDirectory()
  })
  afterEach(async () => {
    await rm(path, { recursive: true, force: true })
  })

  const opener = (keys: number): string => `
    import { openRocksDB } from ${JSON.stringify(join(import.meta.dirname, '../../state/rocksdb.ts'))}
    const database = await openRocksDB(${JSON.stringify(path)}, { owner: { pid: process.pid, bootId: 'boot' } })
    const batch = database.batch()
    for (let i = 0; i < ${keys}; i++) batch.put(Buffer.from('k' + i), Buffer.alloc(1000, 7))
    await batch.commit()
    process.kill(process.pid, 'SIGKILL')`
  const child = (code: string) =>
    spawnSync(process.execPath, ['--input-type=module-typescript', '-e', code], {
      encoding: 'utf8',
      timeout: 30_000,
    })

  it('a second process is refused with the path and the owner named', async () => {
    const database = await openRocksDB(path, { owner: { pid: process.pid, bootId: 'boot' } })
    const { stderr } = child(opener(1))
    expect(stderr).toContain(
      `The database ${path} is in use by another process (pid ${process.pid})`,
    )
    await expect(openRocksDB(path)).rejects.toMatchObject({ code: 'DATABASE_LOCKED' })
    await database.close()
    await (await openRocksDB(path)).close()
  })

  it('a killed process loses no commit that resolved', async () => {
    expect(child(opener(300)).signal).toBe('SIGKILL')
    const database = await openRocksDB(path)
    const keys = Array.from({ length: 300 }, (_, i) => Buffer.from(`k${i}`))
    expect((await database.getMany(keys)).every(value => value?.length === 1000)).toBe(true)
    await database.sync()
    await database.close()
    expect(database.openHandles).toBe(0)
  })

  it('a damaged file is named and nothing is served', async () => {
    const database = await openRocksDB(path)
    const batch = database.batch()
    for (let i = 0; i < 2000; i++) batch.put(Buffer.from(`k${i}`), Buffer.alloc(100, i))
    await batch.commit()
    await database.flush()
    await database.close()
    const table = (await readdir(path)).find(name => name.endsWith('.sst'))!
    const contents = await readFile(join(path, table))
    contents.fill(0x55, 100, 4000)
    await writeFile(join(path, table), contents)
    const damaged = await openRocksDB(path)
    await expect(damaged.getMany([Buffer.from('k0')])).rejects.toMatchObject({
      code: 'DATABASE_CORRUPT',
      message: expect.stringContaining(table),
    })
    const scan = async () => {
      for await (const _ of damaged.scan({ gte: Buffer.from('a'), lt: Buffer.from('z') }));
    }
    await expect(scan()).rejects.toMatchObject({ code: 'DATABASE_CORRUPT' })
    await damaged.close()
    await writeFile(join(path, 'CURRENT'), 'MANIFEST-999999\n')
    await expect(openRocksDB(path)).rejects.toMatchObject({ code: 'DATABASE_CORRUPT' })
  })

  it('a reverse scan into a damaged block is an error, not an empty range', async () => {
    const database = await openRocksDB(path)
    const batch = database.batch()
    for (let i = 0; i < 2000; i++) {
      batch.put(Buffer.from(`k${String(i).padStart(4, '0')}`), randomBytes(100))
    }
    await batch.commit()
    await database.flush()
    await database.close()
    const table = (await readdir(path)).find(name => name.endsWith('.sst'))!
    const contents = await readFile(join(path, table))
    contents[100_000]! ^= 1
    await writeFile(join(path, table), contents)
    const damaged = await openRocksDB(path)
    let errors = 0
    for (let from = 0; from < 2000; from += 10) {
      const gte = Buffer.from(`k${String(from).padStart(4, '0')}`)
      const lt = Buffer.from(`k${String(from + 10).padStart(4, '0')}`)
      for (const limit of [1, 10]) {
        let rows = 0
        try {
          for await (const chunk of damaged.scan({ gte, lt, reverse: true, limit })) {
            rows += chunk.length
          }
          expect(rows).toBe(limit)
        } catch (error) {
          expect(error).toMatchObject({ code: 'DATABASE_CORRUPT' })
          errors++
        }
      }
    }
    expect(errors).toBeGreaterThan(0)
    expect(errors).toBeLessThan(200)
    await damaged.close()
  })

  const owner = (bootId: string) => ({ owner: { pid: process.pid, bootId } })
  const count = async (database: { getMany(keys: Buffer[]): Promise<(Buffer | null)[]> }) => {
    const keys = Array.from({ length: 300 }, (_, i) => Buffer.from(`k${i}`))
    return (await database.getMany(keys)).filter(value => value !== null).length
  }

  /** Commits one key after the other, and leaves the directory as a kill or a close would. */
  async function written(closed: boolean): Promise<string> {
    const database = await openRocksDB(path, owner('one'))
    for (let i = 0; i < 300; i++) {
      const batch = database.batch()
      batch.put(Buffer.from(`k${i}`), Buffer.alloc(1000, i))
      await batch.commit()
    }
    if (closed) {
      await database.close()
      return path
    }
    const killed = join(path, 'killed')
    await mkdir(killed)
    for (const name of await readdir(path)) {
      if (name !== 'killed') await copyFile(join(path, name), join(killed, name))
    }
    await database.close()
    return killed
  }

  async function changeLog(directory: string, change: (log: Buffer) => Buffer): Promise<void> {
    const name = (await readdir(directory))
      .filter(file => file.endsWith('.log'))
      .sort()
      .at(-1)!
    await writeFile(join(directory, name), change(await readFile(join(directory, name))))
  }

  const flip = (log: Buffer) => {
    log[100_000]! ^= 4
    return log
  }
  const cutOff = (log: Buffer) => log.subarray(0, log.length - 300)

  it.each([false, true])(
    'a bit flipped in the write-ahead log stops the open (closed: %s)',
    async closed => {
      const directory = await written(closed)
      await changeLog(directory, flip)
      await expect(openRocksDB(directory, owner('one'))).rejects.toMatchObject({
        code: 'DATABASE_CORRUPT',
      })
      const salvaged = await openRocksDB(directory, { salvage: true })
      expect(await count(salvaged)).toBeLessThan(110)
      await salvaged.close()
    },
  )

  it('a write-ahead log cut off in its last record is what a kill leaves, and no damage', async () => {
    const directory = await written(false)
    await changeLog(directory, cutOff)
    const database = await openRocksDB(directory, owner('one'))
    expect(await count(database)).toBe(299)
    await database.close()
  })

  it('a write-ahead log cut off after a close is damage', async () => {
    const directory = await written(true)
    await changeLog(directory, cutOff)
    await expect(openRocksDB(directory, owner('one'))).rejects.toMatchObject({
      code: 'DATABASE_CORRUPT',
    })
  })

  it('after a power cut a prefix of the write-ahead log is taken', async () => {
    const directory = await written(false)
    await changeLog(directory, flip)
    const database = await openRocksDB(directory, owner('another run'))
    expect(await count(database)).toBeLessThan(110)
    await database.close()
  })

  it('read only, it changes no file and does not lock', async () => {
    const directory = await written(false)
    const before = (await readdir(directory)).sort()
    const database = await openRocksDB(directory, { readOnly: true })
    expect(await count(database)).toBe(300)
    await database.close()
    expect((await readdir(directory)).filter(name => !name.startsWith('LOG')).sort()).toEqual(
      before.filter(name => !name.startsWith('LOG')),
    )
  })

  it('a directory that cannot be made is an error, not a loop', async () => {
    await writeFile(join(path, 'file'), '')
    await expect(openRocksDB(join(path, 'file', 'x'))).rejects.toMatchObject({
      code: 'DATABASE_OPEN_FAILED',
    })
  })

  it('a value of a log batch survives beside small rows', async () => {
    const database = await openRocksDB(path, { writeBufferBytes: 1 << 20 })
    for (let round = 0; round < 8; round++) {
      const batch = database.batch()
      batch.put(Buffer.from(`block${round}`), Buffer.alloc(256 << 10, round))
      for (let i = 0; i < 100; i++) batch.put(Buffer.from(`row${i}`), Buffer.from(`${round}`))
      await batch.commit()
    }
    await database.flush()
    let blocks = 0
    for await (const entries of database.scan({ gte: Buffer.from('b'), lt: Buffer.from('c') })) {
      for (const { value } of entries) {
        expect(value.equals(Buffer.alloc(256 << 10, blocks))).toBe(true)
        blocks++
      }
    }
    expect(blocks).toBe(8)
    await database.close()
  })

  it('a library that does not load names the package to install', () => {
    const error = nativeLoadError(
      new Error('libatomic.so.1: cannot open shared object file: No such file or directory'),
    )
    expect(error.code).toBe('DATABASE_NATIVE_MISSING')
    expect(error.message).toContain('apt-get install libatomic1')
  })
})
