/** What `millrace import` shows on a terminal while it runs. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importCommand } from '../../cli/import.ts'
import { eventLines } from '../support/order-lines.ts'
import { scratchFolder } from '../support/service-process.ts'

async function shown(isInteractive: boolean): Promise<{ code: number; out: string; err: string }> {
  const { path, remove } = await scratchFolder()
  const file = join(path, 'events.ndjson')
  await writeFile(file, eventLines(0, 5_000, Date.UTC(2026, 0, 5)).join('\n'))
  const text = { out: '', err: '' }
  const terminal = {
    environment: { DATA_DIR: join(path, 'data') },
    out: (some: string) => {
      text.out += some
    },
    err: (some: string) => {
      text.err += some
    },
    isInteractive,
  }
  const code = await importCommand.run({ flags: {}, operands: [file], terminal })
  await remove()
  return { code, ...text }
}

test('on a terminal a line tells how far it is, and is gone at the end', async () => {
  const { code, out, err } = await shown(true)
  const [before, ...lines] = err.split('\r\x1b[K')
  expect([before, lines.at(-1)]).toEqual(['', ''])
  expect(lines.length).toBeGreaterThan(1)
  for (const line of lines.slice(0, -1)) {
    expect(line).toMatch(/^\d+ %, \d+ accepted, 0 rejected, \d+ a second$/)
  }
  expect([code, out]).toEqual([0, '10000 accepted, 0 rejected\n'])
})

test('elsewhere nothing is written over: a log keeps whole lines', async () => {
  expect(await shown(false)).toEqual({ code: 0, out: '10000 accepted, 0 rejected\n', err: '' })
})
