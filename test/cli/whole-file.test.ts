/** Files that are there whole or not at all. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { writeWhole } from '../../cli/whole-file.ts'
import { scratchPaths } from '../support/scratch.ts'

const at = scratchPaths()

test('a file that was made meanwhile is not replaced', async () => {
  const path = at('made.ndjson')
  const written = writeWhole(path, async partial => {
    await writeFile(partial, 'mine')
    await writeFile(path, 'theirs')
  })
  const reason = 'it exists already'
  await expect(written).rejects.toMatchObject({ code: 'FILE_UNWRITABLE', details: { reason } })
  expect(await readFile(path, 'utf8')).toBe('theirs')
  expect(await readdir(at(''))).toEqual(['made.ndjson'])
})

test('what cannot be written is named as it was asked for', async () => {
  const path = at('nowhere/x.ndjson')
  const written = writeWhole(path, partial => writeFile(partial, 'mine'))
  const reason = `ENOENT: no such file or directory, open '${path}'`
  await expect(written).rejects.toMatchObject({
    code: 'FILE_UNWRITABLE',
    details: { path, reason },
  })
})
