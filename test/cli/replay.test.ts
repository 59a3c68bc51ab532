/** `millrace replay` with targets, times and interruptions that are not as they should be. */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { scratchFolder } from '../support/service-process.ts'
import { callReplay, writeRecording } from './replay-calls.ts'

let folder: string
let remove: () => Promise<void>

const at = (name: string) => join(folder, name)

beforeAll(async () => {
  ;({ path: folder, remove } = await scratchFolder())
})

afterAll(() => remove())

describe('a target that is mistyped is named, and no folder is made of it', () => {
  test.each([
    ['localhost:9092', 'kafka://localhost:9092, http://localhost:9092, or ./localhost:9092'],
    ['a:9092,b:9092', 'kafka://a:9092,b:9092'],
    ['[::1]:9092', 'kafka://[::1]:9092'],
    ['htp://127.0.0.1:8080', 'kafka://HOST:PORT, http://HOST:PORT or a folder'],
    ['KAFKA://localhost:9092', 'kafka://HOST:PORT'],
    ['http://', 'http://HOST:PORT'],
    ['', 'a folder'],
  ])('%s', async (to, expected) => {
    await writeRecording(at('a.mrec'), 'a', [{ key: 'k', timestampMs: 1 }])
    const { code, err } = await callReplay([at('a.mrec'), `--to=${to}`, '--speed', 'max'])
    expect(code).toBe('USAGE')
    expect(err).toContain(expected)
    if (to !== '') await expect(access(to)).rejects.toThrow('ENOENT')
  })
})

test('a time that no date can hold is told as a number, and the replay goes on', async () => {
  const records = [{ key: 'k', timestampMs: 8.64e15 + 1 }]
  await writeRecording(at('far.mrec'), 'far', records)
  const { code, err } = await callReplay([at('far.mrec'), '--to', at('far')])
  expect(code).toBe(0)
  expect(err).toContain('The last events are of 8640000000000001:')
})

test('a task of months is not run at once, and not before its time', () => {
  vi.useFakeTimers()
  try {
    const task = vi.fn()
    const dayMs = 86_400_000
    effects.schedule(task, 60 * dayMs)
    const cancel = effects.schedule(() => expect.unreachable(), 60 * dayMs)
    vi.advanceTimersByTime(60 * dayMs - 1)
    expect(task).not.toHaveBeenCalled()
    cancel()
    vi.advanceTimersByTime(1)
    expect(task).toHaveBeenCalledTimes(1)
  } finally {
    vi.useRealTimers()
  }
})
