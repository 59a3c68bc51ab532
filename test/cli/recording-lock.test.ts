import { spawnSync } from 'node:child_process'
import { access, mkdir, readdir, realpath, rm, rmdir, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { bootId } from '../../cli/effects.ts'
import {
  createRecordingFile,
  openRecordingFile,
  reopenRecordingFile,
} from '../../cli/recording-file.ts'
import { scratchPaths } from '../support/scratch.ts'

const at = scratchPaths()

test('a recording has one writer at a time, and readers meanwhile', async () => {
  const path = at('run.mrec')
  const first = await createRecordingFile(path)
  const refused = { code: 'RECORDING_IN_USE', details: { pid: String(process.pid) } }
  await expect(reopenRecordingFile(path)).rejects.toMatchObject(refused)
  await (await openRecordingFile(path)).close()
  await first.close()
  const opened = await Promise.allSettled([1, 2, 3].map(() => reopenRecordingFile(path)))
  const files = opened.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []))
  expect(files).toHaveLength(1)
  await files[0]!.close()
  expect(await readdir(at(''))).toEqual(['run.mrec'])
})

test('a lock that cannot be read is said, not waited for', async () => {
  const path = at('odd.mrec')
  await (await createRecordingFile(path)).close()
  await mkdir(`${path}.lock`)
  const refused = { code: 'FILE_UNWRITABLE', details: { path: `${await realpath(path)}.lock` } }
  await expect(reopenRecordingFile(path)).rejects.toMatchObject(refused)
  await rmdir(`${path}.lock`)
  await rm(path)
})

test('the lock of a process that was killed, or of before a restart, does not hold', async () => {
  const path = at('left.mrec')
  await (await createRecordingFile(path)).close()
  const { pid } = spawnSync(process.execPath, ['-e', ''])
  for (const text of [`${pid}\n${bootId()}\n`, `${process.pid}\nearlier\n`]) {
    await writeFile(`${path}.lock`, text)
    await (await reopenRecordingFile(path)).close()
    await expect(access(`${path}.lock`)).rejects.toThrow('ENOENT')
  }
  await writeFile(`${path}.lock`, `${process.ppid}\n${bootId()}\n`)
  await expect(reopenRecordingFile(path)).rejects.toThrow(`delete ${path}.lock`)
})
