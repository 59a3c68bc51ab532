/** What `record` and `convert` leave where the disk is full. */
import { access, symlink, writeFile } from 'node:fs/promises'
import { beforeAll, expect, test, vi } from 'vitest'
import { convertCommand } from '../../cli/convert.ts'
import { openFolder } from '../../cli/log-access.ts'
import { recordCommand } from '../../cli/record.ts'
import type { RecordingFile } from '../../recording/port.ts'
import { MemoryFile, recordInto, smallLog } from '../recording/worlds.ts'
import { scratchPaths } from '../support/scratch.ts'

/** Appends that succeed before the disk is full. */
const disk = vi.hoisted(() => ({ appends: Number.POSITIVE_INFINITY }))

vi.mock('../../cli/recording-file.ts', async original => {
  const real = await original<typeof import('../../cli/recording-file.ts')>()
  const limited = (file: RecordingFile): RecordingFile => {
    const append = file.append.bind(file)
    file.append = async bytes => {
      if (disk.appends-- > 0) return append(bytes)
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { syscall: 'write' })
    }
    return file
  }
  return {
    ...real,
    createRecordingFile: async (path: string) => limited(await real.createRecordingFile(path)),
  }
})

const at = scratchPaths()
const isThere = (name: string) =>
  access(at(name)).then(
    () => true,
    () => false,
  )

const terminal = { environment: {}, out: () => {}, err: () => {}, isInteractive: false }

const convert = (from: string, to: string) =>
  convertCommand.run({ flags: {}, operands: [at(from), at(to)], terminal })

beforeAll(async () => {
  const { log, dispose } = await smallLog()
  const file = new MemoryFile()
  await recordInto(file, log)
  await dispose()
  await writeFile(at('run.mrec'), file.bytes)
})

const onLinux = test.skipIf(process.platform !== 'linux')

onLinux.each(['run.ndjson', 'run.parquet'])(
  'convert to %s names it, and can be tried again',
  async to => {
    const partial = `${to}.${process.pid}.partial`
    await symlink('/dev/full', at(partial))
    const reason = expect.stringContaining(`${at(to)} cannot be written: ENOSPC`)
    const refused = { code: 'FILE_UNWRITABLE', message: reason }
    await expect(convert('run.mrec', to)).rejects.toMatchObject(refused)
    expect([await isThere(to), await isThere(partial)]).toEqual([false, false])
    expect(await convert('run.mrec', to)).toBe(0)
    expect(await isThere(to)).toBe(true)
  },
)

test('convert to a recording leaves none, whichever write fails', async () => {
  for (const appends of [0, 1, 2]) {
    disk.appends = appends
    const refused = { code: 'FILE_UNWRITABLE', details: { path: at('again.mrec') } }
    await expect(convert('run.ndjson', 'again.mrec')).rejects.toMatchObject(refused)
    expect(await isThere('again.mrec')).toBe(false)
  }
  disk.appends = Number.POSITIVE_INFINITY
  expect(await convert('run.ndjson', 'again.mrec')).toBe(0)
})

test('record leaves no file without a header; one with a header is gone on with', async () => {
  const { log, close } = await openFolder(at('data'), { create: true })
  await log.createTopic('orders', 1)
  await close()
  const record = (flags: Record<string, string | boolean>) => {
    const all = { 'data-dir': at('data'), out: at('new.mrec'), ...flags }
    return recordCommand.run({ flags: all, operands: [], terminal })
  }
  disk.appends = 0
  const code = 'FILE_UNWRITABLE'
  await expect(record({ topics: 'orders' })).rejects.toMatchObject({ code })
  expect(await isThere('new.mrec')).toBe(false)
  disk.appends = 1
  const begun = { code: 'RECORDING_WRITE_FAILED' }
  await expect(record({ topics: 'orders' })).rejects.toMatchObject(begun)
  disk.appends = Number.POSITIVE_INFINITY
  expect(await record({ resume: true })).toBe(0)
})
