/** `millrace replay` with targets, times and interruptions that are not as they should be. */
import { access } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { batchOf, makeBatch } from '../log/batches.ts'
import { scratchPaths } from '../support/scratch.ts'
import {
  callReplay,
  cancellations,
  startInstance,
  startReplay,
  type Taking,
  writeRecording,
} from './replay-calls.ts'

const at = scratchPaths()

const allTaken: Taking = lines => ({ body: { accepted: lines.length, rejected: [] } })

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
    await writeRecording(at('a.mrec'), 'a', batchOf('k=v'))
    const { code, err } = await callReplay([at('a.mrec'), `--to=${to}`, '--speed', 'max'])
    expect(code).toBe('USAGE')
    expect(err).toContain(expected)
    if (to !== '') await expect(access(to)).rejects.toThrow('ENOENT')
  })
})

test('a time that no date can hold is told as a number, and the replay goes on', async () => {
  const batch = makeBatch([{ key: 'k', timestampMs: 8.64e15 + 1 }])
  await writeRecording(at('far.mrec'), 'far', batch)
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

describe('over HTTP', () => {
  async function replayTo(take: Taking, records: number, topology?: object) {
    await using instance = await startInstance(take, topology)
    await writeRecording(at('orders.mrec'), 'orders', cancellations(records))
    const to = ['--to', instance.url, '--speed', 'max', '--json']
    return await callReplay([at('orders.mrec'), ...to])
  }

  test('a request that fails leaves what those before it did in the report', async () => {
    const row = (line: number) => ({ line, code: 'TIMESTAMP_FUTURE', detail: '' })
    const take: Taking = (lines, request) => {
      if (request === 1) return { body: { accepted: lines.length - 1, rejected: [row(7)] } }
      const problem = { code: 'EVENTS_CUT_OFF', title: 'full', accepted: 10, rejected: [row(1)] }
      return { status: 500, body: problem }
    }
    const { code, out } = await replayTo(take, 2500)
    expect(code).toBe(1)
    expect(JSON.parse(out)).toMatchObject({
      sent: 2500,
      acknowledged: 1009,
      refused: { TIMESTAMP_FUTURE: 2 },
      failure: { code: 'INSTANCE_REFUSED', records: 1489 },
    })
  })

  test.each([{ hello: 1 }, { topics: [1] }])('a server of another kind is told: %o', async body => {
    const { code, err } = await replayTo(allTaken, 1, body)
    expect(code).toBe('INSTANCE_FOREIGN')
    expect(err).toContain('is no Millrace instance: /v1/topology lists no topics.')
  })

  test('so is one that takes events, and does not say what it took', async () => {
    const { code, out } = await replayTo(() => ({ body: {} }), 1)
    expect(code).toBe(1)
    expect(JSON.parse(out).failure).toMatchObject({ code: 'INSTANCE_FOREIGN', records: 1 })
  })
})

describe('called off', () => {
  async function started(take: Taking, signals: readonly NodeJS.Signals[], ...argv: string[]) {
    let requests = 0
    await using instance = await startInstance((lines, request) => {
      requests = request
      return take(lines, request)
    })
    await writeRecording(at('slow.mrec'), 'orders', cancellations(300))
    const replay = startReplay([at('slow.mrec'), '--to', instance.url, ...argv])
    await vi.waitUntil(() => requests > 1, { timeout: 60_000 })
    await sleep(300)
    for (const [i, signal] of signals.entries()) {
      if (i > 0) await sleep(2100)
      replay.signal(signal)
    }
    return { ...(await replay.done), err: replay.stderr() }
  }

  test('by SIGINT, it says so and ends with 130', async () => {
    const { code, out } = await started(allTaken, ['SIGINT'], '--json')
    expect(code).toBe(130)
    const report = JSON.parse(out)
    expect(report).toMatchObject({ interrupted: true, failure: null })
    expect(report.sent).toBeLessThan(300)
    const terminated = await started(allTaken, ['SIGTERM'])
    expect(terminated.code).toBe(143)
    expect(terminated.out).toMatch(/INTERRUPTED \d+ of 300 records were sent/)
  })

  test('while the target hangs: says what it waits for, then tells what is known', async () => {
    const hang: Taking = (lines, request) => (request < 2 ? allTaken(lines, request) : undefined)
    const { code, out, err } = await started(hang, ['SIGINT', 'SIGINT'], '--json')
    expect(err).toContain('Ends once what was sent is answered; Ctrl-C again waits no longer.')
    expect(code).toBe(130)
    const report = JSON.parse(out)
    expect(report).toMatchObject({ interrupted: true, keptUp: false })
    expect(report.acknowledged).toBe(report.sent - report.unanswered)
    expect(report.unanswered).toBeGreaterThan(0)
    expect(report.overdue).toBeGreaterThan(0)
  })
})
