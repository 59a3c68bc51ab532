import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nativeLoadError, openRocksDB } from '../../state/rocksdb.ts'
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
    const database = await openRocksDB(${JSON.stringify(path)}, { ownerPid: process.pid })
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
    const database = await openRocksDB(path, { ownerPid: process.pid })
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
