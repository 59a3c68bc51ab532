import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { openTarget } from '../../cli/replay-targets.ts'
import type { EventLog } from '../../log/port.ts'
import { batchOf } from '../log/batches.ts'
import { callReplay, writeRecording } from './replay-calls.ts'

vi.mock('../../cli/replay-targets.ts')

test('a log that fails, and then cannot be asked for its end, costs the position alone', async () => {
  const path = join(tmpdir(), `millrace-position-${process.pid}.mrec`)
  await writeRecording(path, 'orders', batchOf('a=1', 'b=2'))
  const gone = () => Promise.reject(new Error('no broker answers'))
  const target = { name: 'kafka://x', sendsMax: 4, bytesMax: 1 << 20, send: gone }
  const log = { incarnation: 'i', offsets: gone } as unknown as EventLog
  vi.mocked(openTarget).mockResolvedValue({
    target: { ...target, prepare: async () => {} },
    log,
    close: async () => {},
  })
  const { code, out, err } = await callReplay([path, '--speed', 'max', '--json'])
  await rm(path)
  expect(code).toBe(1)
  const failure = { code: 'ERROR', message: 'no broker answers', records: 2 }
  expect(JSON.parse(out)).toMatchObject({ acknowledged: 0, failure, position: null })
  expect(err).toContain('The position is not known: no broker answers')
})
