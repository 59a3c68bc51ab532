import { describe, expect, test } from 'vitest'
import { logTarget } from '../../cli/replay-targets.ts'
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import type { ReplayReport } from '../../recording/meter.ts'
import { type OutgoingRecords, type ReplayTarget, SendCutShort } from '../../recording/port.ts'
import { openRecording, type Recording } from '../../recording/reader.ts'
import { type ReplayOptions, replay } from '../../recording/replay.ts'
import { makeBatch, type TestRecord } from '../log/batches.ts'
import { openOnMemory } from '../log/embedded/environment.ts'
import { SimulatedTime } from './simulated-time.ts'
import { append, contentsOf, MemoryFile, recordInto, resumeInto, smallLog } from './worlds.ts'

interface Sent {
  readonly atMs: number
  readonly records: string[]
}

/** Remembers what it was sent and when, and answers after a time. */
class SlowTarget implements ReplayTarget {
  readonly name = 'slow'
  sendsMax = 100
  bytesMax = 1 << 30
  readonly sent: Sent[] = []
  readonly #time: SimulatedTime
  readonly #answer: (send: number) => Promise<void> | undefined

  constructor(time: SimulatedTime, answer: (send: number) => Promise<void> | undefined) {
    this.#time = time
    this.#answer = answer
  }

  async prepare(): Promise<void> {}

  async send(outgoing: readonly OutgoingRecords[]): Promise<Record<string, number>> {
    const records = outgoing.flatMap(({ partition, bytes }) =>
      decodeBatches(bytes).runs.flatMap(run =>
        Array.from({ length: run.length }, (_, i) => {
          const key = run.bytes.utf8Slice(run.keyStart[i]!, run.keyEnd[i]!)
          return `${partition}:${key}@${run.timestamps[i]}`
        }),
      ),
    )
    this.sent.push({ atMs: this.#time.nowMs, records })
    await this.#answer(this.sent.length)
    return {}
  }

  get records(): string[] {
    return this.sent.flatMap(({ records }) => records)
  }
}

async function recordingOf(partitions: readonly (readonly TestRecord[])[]): Promise<Recording> {
  const { log, dispose } = await openOnMemory()
  await log.createTopic('orders', partitions.length)
  for (const [partition, records] of partitions.entries()) {
    await append(log as EmbeddedLog, { topic: 'orders', partition }, records)
  }
  const file = new MemoryFile()
  await recordInto(file, log as EmbeddedLog, { topics: ['orders'] })
  await dispose()
  return openRecording(file)
}

/** So many records, 100 ms apart, in one partition. */
const evenly = (count: number) =>
  recordingOf([
    Array.from({ length: count }, (_, i) => ({ key: `k${i}`, timestampMs: 5_000 + 100 * i })),
  ])

interface Trial extends Partial<ReplayOptions> {
  readonly answer?: (send: number, time: SimulatedTime) => Promise<void> | undefined
  readonly sendsMax?: number
}

async function trial(recording: Recording, { answer, sendsMax, ...options }: Trial) {
  const time = new SimulatedTime()
  const startMs = time.nowMs
  const target = new SlowTarget(time, send => answer?.(send, time))
  if (sendsMax !== undefined) target.sendsMax = sendsMax
  const pace = { kind: 'speed', factor: 1 } as const
  const all = { recording, target, environment: time, pace, ...options }
  const report = await time.run(replay(all))
  const sends = target.sent.map(({ atMs, records }) => [atMs - startMs, records.length])
  return { report, target, sends, startMs }
}

describe('deadlines', () => {
  test('each record is sent when it is due, never before', async () => {
    const recording = await evenly(5)
    const pace = { kind: 'rate', perSecond: 1000 } as const
    const { sends, report } = await trial(recording, { pace })
    expect(sends).toEqual([0, 1, 2, 3, 4].map(ms => [ms, 1]))
    expect(report.latenessMs).toEqual({ p50: 0, p95: 0, p99: 0, max: 0 })
    expect(report).toMatchObject({ acknowledged: 5, askedRate: 1000, keptUp: true })
    const atSpeed = async (factor: number) => {
      const { sends: all } = await trial(recording, { pace: { kind: 'speed', factor } })
      return all.map(([ms]) => ms)
    }
    expect(await atSpeed(1)).toEqual([0, 100, 200, 300, 400])
    expect(await atSpeed(10)).toEqual([0, 10, 20, 30, 40])
    expect(await atSpeed(0.5)).toEqual([0, 200, 400, 600, 800])
  })

  test('come from one anchor: what a slow send delays is late, and what follows is not', async () => {
    const pace = { kind: 'rate', perSecond: 1000 } as const
    const answer = (send: number, time: SimulatedTime) =>
      send === 1 ? time.after(10.5) : undefined
    const { sends, report } = await trial(await evenly(14), { pace, answer, sendsMax: 1 })
    expect(sends).toEqual([
      [0, 1],
      [10.5, 10],
      [11, 1],
      [12, 1],
      [13, 1],
    ])
    // Not hidden by the wait for the answer: the record that was due at 1 is 9.5 ms late.
    expect(report.latenessMs?.max).toBe(9.5)
    expect(report.ackMs?.max).toBe(10.5)
    expect(report.responseMs?.max).toBe(10.5)
    expect(report.elapsedMs).toBe(13)
  })

  test('a rate above what the target takes is told, not slowed', async () => {
    const pace = { kind: 'rate', perSecond: 10_000 } as const
    const answer = (_: number, time: SimulatedTime) => time.after(100)
    const recording = await evenly(2000)
    const { report } = await trial(recording, { pace, answer, sendsMax: 1 })
    expect(report.askedRate).toBe(10_000)
    expect(report.keptUp).toBe(true)
    const tight = await trial(recording, {
      pace: { kind: 'rate', perSecond: 100_000 },
      answer: (_: number, time: SimulatedTime) => time.after(1000),
      sendsMax: 1,
    })
    expect(tight.report.keptUp).toBe(false)
    expect(tight.report.acknowledged).toBe(2000)
    expect(tight.report.reachedRate).toBe(1000)
    expect(tight.report.latenessMs!.p99).toBeGreaterThan(970)
    // Taken over in time, and waiting there.
    const queued = await trial(recording, {
      pace: { kind: 'rate', perSecond: 100_000 },
      answer: (send: number, time: SimulatedTime) => time.after(10 * send),
      sendsMax: 10_000,
    })
    expect(queued.report.latenessMs!.max).toBeLessThan(1)
    expect(queued.report.keptUp).toBe(false)
  })

  test('several sends may be under way, in order', async () => {
    const answer = (_: number, time: SimulatedTime) => time.after(1000)
    const { sends, target, report } = await trial(await evenly(5), { answer, sendsMax: 3 })
    expect(sends).toEqual([
      [0, 1],
      [100, 1],
      [200, 1],
      [1000, 2],
    ])
    expect(target.records).toEqual([0, 1, 2, 3, 4].map(i => `0:k${i}@${5000 + 100 * i}`))
    expect(report.latenessMs?.max).toBe(700)
  })
})

test('partitions are aligned by stream time, a late record comes behind what made it late', async () => {
  const at = (key: string, timestampMs: number) => ({ key, timestampMs })
  const recording = await recordingOf([
    [at('a', 1000), at('b', 1300), at('late', 900), at('c', 1500)],
    [at('x', 1100), at('y', 1200), at('z', 1400)],
  ])
  const { target, sends } = await trial(recording, {})
  expect(target.records).toEqual([
    ...['0:a@1000', '1:x@1100', '1:y@1200', '0:b@1300', '0:late@900', '1:z@1400', '0:c@1500'],
  ])
  expect(sends).toEqual([
    [0, 1],
    [100, 1],
    [200, 1],
    [300, 2],
    [400, 1],
    [500, 1],
  ])
})

describe('times', () => {
  const times = (records: readonly string[], startMs: number) =>
    records.map(record => Number(record.split('@')[1]) - startMs)

  test('rewritten to now keep their gaps, and none is ahead of when it is due', async () => {
    const recording = await evenly(4)
    const rewritten = async (pace: ReplayOptions['pace']) => {
      const { target, startMs } = await trial(recording, { pace, rewriteNow: true })
      return times(target.records, startMs)
    }
    expect(await rewritten({ kind: 'speed', factor: 1 })).toEqual([0, 100, 200, 300])
    expect(await rewritten({ kind: 'speed', factor: 0.5 })).toEqual([0, 100, 200, 300])
    // Due at 0, 10, 20, 30: the last is as new as it can be.
    expect(await rewritten({ kind: 'speed', factor: 10 })).toEqual([-270, -170, -70, 30])
    expect(await rewritten({ kind: 'rate', perSecond: 1000 })).toEqual([-300, -200, -100, 0])
    expect(await rewritten({ kind: 'max' })).toEqual([-300, -200, -100, 0])
  })

  test('of later passes go on where the pass before them would have', async () => {
    const recording = await evenly(3)
    const { target, sends, report } = await trial(recording, { passes: 3 })
    expect(sends.map(([ms]) => ms)).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800])
    expect(times(target.records, 5000)).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800])
    expect(report.planned).toBe(9)
    const atMax = await trial(recording, { passes: 2, pace: { kind: 'max' } })
    expect(times(atMax.target.records, 5000)).toEqual([0, 100, 200, 300, 400, 500])
  })
})

describe('a record without a time', () => {
  const at = (key: string, timestampMs: number) => ({ key, timestampMs })

  test('goes with the next one where it is the first, not decades before it', async () => {
    const recording = await recordingOf([
      [at('none', -1), at('a', 50_000), at('b', 50_100)],
      [at('x', 50_050)],
    ])
    const { sends, report, startMs, target } = await trial(recording, { rewriteNow: true })
    expect(sends).toEqual([
      [0, 2],
      [50, 1],
      [100, 1],
    ])
    expect(report.latenessMs?.max).toBe(0)
    expect(target.records[0]).toBe('0:none@-1')
    expect(target.records[1]).toBe(`0:a@${startMs}`)
  })

  test('goes with its predecessor in the middle, and with all where none has one', async () => {
    const middle = await trial(await recordingOf([[at('a', 50_000), at('none', -1)]]), {})
    expect(middle.sends).toEqual([[0, 2]])
    const { sends } = await trial(await recordingOf([[at('n', -1), at('m', -1)]]), { passes: 2 })
    expect(sends.map(([ms]) => ms)).toEqual([0, 1])
  })
})

describe('into a log', () => {
  async function replayed(
    recording: Recording,
    options: Partial<ReplayOptions>,
  ): Promise<{ lines: string[]; report: ReplayReport }> {
    const world = await openOnMemory()
    const log = world.log as EmbeddedLog
    const time = new SimulatedTime()
    const target = logTarget('log', log)
    const pace = { kind: 'max' } as const
    const report = await time.run(
      replay({ recording, target, environment: time, pace, ...options }),
    )
    const file = new MemoryFile()
    await recordInto(file, log, { topics: recording.header.topics.map(({ name }) => name) })
    await world.dispose()
    return { lines: await contentsOf(file), report }
  }

  test('every pace gives what was recorded, each partition in its order', async () => {
    const { log, dispose } = await smallLog(30)
    const file = new MemoryFile()
    await recordInto(file, log)
    const recording = await openRecording(file)
    const all = await contentsOf(file)
    expect(all).toHaveLength(180)
    const paces = [
      { kind: 'max' },
      { kind: 'speed', factor: 7 },
      { kind: 'rate', perSecond: 333 },
    ] as const
    for (const pace of paces) {
      const { lines, report } = await replayed(recording, { pace })
      expect(lines).toEqual(all)
      expect(report).toMatchObject({ acknowledged: 180, failure: null })
    }
    await dispose()
  })

  test('batches with gaps, of a log append time, or cut by a limit go out as new ones', async () => {
    const { log, dispose } = await openOnMemory()
    await log.createTopic('orders', 1)
    const target = { topic: 'orders', partition: 0 }
    const transaction = log.begin()
    const records = ['a', 'b', 'c'].map(key => ({ key, value: 'v', timestampMs: 7 }))
    transaction.append(target, makeBatch(records, { lastOffsetDelta: 9 }))
    await transaction.commit()
    await append(log as EmbeddedLog, target, records)
    const file = new MemoryFile()
    await recordInto(file, log as EmbeddedLog, { topics: ['orders'], options: { recordsMax: 5 } })
    await dispose()
    const { lines } = await replayed(await openRecording(file), {})
    const keys = ['0@7 a=v', '1@7 b=v', '2@7 c=v', '3@7 a=v', '4@7 b=v']
    expect(lines).toEqual(keys.map(line => `orders-0: ${line}`))
  })

  test('whose topic takes small batches: new ones stay below that, as recorded or not', async () => {
    const world = await openOnMemory()
    const log = world.log as EmbeddedLog
    await log.createTopic('orders', 1, { batchBytesMax: 10_000 })
    const value = 'v'.repeat(3000)
    const headers = [['ce_id', Buffer.from('h'.repeat(1500))]] as const
    const records = Array.from({ length: 40 }, (_, i) => {
      return { key: `k${i}`, value, headers, timestampMs: i }
    })
    const recording = await recordingOf([records])
    const environment = new SimulatedTime()
    const target = logTarget('log', log)
    const change = { key: null, value: Buffer.from(value), headers }
    for (const [kind, rewriteNow] of [
      ['max', false],
      ['rate', false],
      ['rate', true],
    ] as const) {
      const pace = { kind, perSecond: 1e6 }
      const all = { recording, target, environment, pace, rewriteNow, changeRecord: () => change }
      const report = await environment.run(replay(all))
      expect(report).toMatchObject({ acknowledged: 40, failure: null })
    }
    await world.dispose()
  })

  test('whose topic has other partitions: nothing is sent, and it says what to do', async () => {
    const { log, dispose } = await openOnMemory()
    await log.createTopic('orders', 3)
    const replaying = replay({
      recording: await evenly(2),
      target: logTarget('log', log),
      environment: new SimulatedTime(),
      pace: { kind: 'max' },
    })
    await expect(replaying).rejects.toThrow(
      'Topic orders has 3 partitions at the target and 1 in the recording, and a replay keeps partitions: delete the topic',
    )
    await dispose()
  })

  test('up to where the recording is damaged', async () => {
    const { log, dispose } = await smallLog(2)
    const file = new MemoryFile()
    await recordInto(file, log, { options: { recordsMax: 5 } })
    await resumeInto(file, log)
    const all = await contentsOf(file)
    const position = (await openRecording(file)).blocks[1]!.position
    file.bytes[position + 60]! ^= 1
    const { lines, report } = await replayed(await openRecording(file), {})
    expect(report.failure?.code).toBe('RECORDING_DAMAGED')
    expect(report.failure?.message).toContain(`byte ${position}`)
    expect(lines).toEqual(all.slice(0, 5))
    await dispose()
  })
})

describe('ends early', () => {
  test('at the first send that fails: what was acknowledged is told, and the error', async () => {
    const answer = async (send: number) => {
      if (send === 3) throw Object.assign(new Error('no leader'), { code: 'KAFKA_UNREACHABLE' })
    }
    const { report, target } = await trial(await evenly(6), { answer })
    expect(target.sent).toHaveLength(3)
    expect(report).toMatchObject({
      sent: 3,
      acknowledged: 2,
      keptUp: false,
      failure: { code: 'KAFKA_UNREACHABLE', message: 'no leader', records: 1 },
    })
  })

  test('when it is told to, once what is under way has been answered', async () => {
    const ended = new AbortController()
    const answer = (send: number, time: SimulatedTime) => {
      if (send === 2) time.schedule(() => ended.abort(), 50)
      return time.after(80)
    }
    const { report } = await trial(await evenly(6), { answer, signal: ended.signal })
    expect(report).toMatchObject({ planned: 6, sent: 2, acknowledged: 2, failure: null })
    expect(report).toMatchObject({ interrupted: true, keptUp: true, overdue: 0, unanswered: 0 })
    expect(report.elapsedMs).toBe(180)
  })

  test('by a failure after a stall: what was due meanwhile is counted, and late', async () => {
    const answer = async (send: number, time: SimulatedTime) => {
      if (send < 2) return
      await time.after(30_000)
      throw new Error('gone')
    }
    const pace = { kind: 'rate', perSecond: 10 } as const
    const all = { pace, answer, sendsMax: 1 }
    const { report } = await trial(await evenly(400), all)
    // Of the 302 that were due at 30,100 ms two were sent.
    expect(report).toMatchObject({ sent: 2, overdue: 300, keptUp: false, interrupted: false })
    expect(report.latenessMs!.max).toBe(29_900)
    expect(report.latenessMs!.p50).toBeGreaterThan(14_000)
    const twice = await trial(await evenly(200), { ...all, passes: 2 })
    expect(twice.report.overdue).toBe(300)
  })

  test('while it is behind: it has not kept up until then', async () => {
    const ended = new AbortController()
    const answer = (_: number, time: SimulatedTime) => {
      time.schedule(() => ended.abort(), 1000)
      return time.after(1100)
    }
    const all = { answer, sendsMax: 1, signal: ended.signal }
    const { report } = await trial(await evenly(20), all)
    expect(report).toMatchObject({ sent: 1, overdue: 10, interrupted: true, keptUp: false })
    expect(report.latenessMs!.max).toBe(900)
  })

  test('given up on while the target hangs: what is known, and what has no answer', async () => {
    const [ended, giveUp] = [new AbortController(), new AbortController()]
    const answer = (send: number, time: SimulatedTime) => {
      if (send < 3) return
      time.schedule(() => ended.abort(), 50)
      time.schedule(() => giveUp.abort(), 3000)
      return new Promise<void>(() => {})
    }
    const signals = { signal: ended.signal, giveUp: giveUp.signal }
    const { report } = await trial(await evenly(6), { answer, ...signals })
    expect(report).toMatchObject({ sent: 3, acknowledged: 2, unanswered: 1, failure: null })
    expect(report).toMatchObject({ interrupted: true, keptUp: false, elapsedMs: 250 })
  })

  test('by a send of which a part was answered: that part counts', async () => {
    const answer = async () => {
      const refusals = { X: 1 }
      throw new SendCutShort(new Error('gone'), { answered: 3, refusals })
    }
    const { report } = await trial(await evenly(5), { answer, pace: { kind: 'max' } })
    const failure = { code: 'ERROR', message: 'gone', records: 2 }
    expect(report).toMatchObject({ sent: 5, acknowledged: 2, refused: { X: 1 }, failure })
    expect(report.unanswered).toBe(0)
  })

  test('an empty recording is sent at once', async () => {
    const { log, dispose } = await smallLog(0)
    const file = new MemoryFile()
    await recordInto(file, log)
    await dispose()
    const { report } = await trial(await openRecording(file), { passes: 3 })
    expect(report).toMatchObject({ planned: 0, sent: 0, failure: null, latenessMs: null })
  })
})

test('every second tells what happened since the one before', async () => {
  const seen: (readonly unknown[])[] = []
  await trial(await evenly(40), {
    onProgress: ({ acknowledged, reachedRate }) => seen.push([acknowledged, reachedRate]),
  })
  expect(seen).toEqual([
    [10, 10],
    [20, 10],
    [30, 10],
  ])
})
