/** `replay`: recordings into and out of the embedded log, beside the log's own append. */
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { steadyClock } from '../cli/effects.ts'
import { createRecordingFile, openRecordingFile } from '../cli/recording-file.ts'
import { logTarget } from '../cli/replay-targets.ts'
import type { EventLog } from '../log/port.ts'
import { VERSION } from '../recording/format.ts'
import type { ReplayReport } from '../recording/meter.ts'
import type { Pace } from '../recording/plan.ts'
import { openRecording } from '../recording/reader.ts'
import { describeTopics, nextOffsets, record } from '../recording/recorder.ts'
import { replay } from '../recording/replay.ts'
import { RecordingWriter } from '../recording/writer.ts'
import { environment, withBed } from './environment.ts'
import { appendBatches, builtBatches, RECORDS } from './log.ts'
import { type Figure, measured, median } from './report.ts'
import { setting } from './settings.ts'

const ROUNDS = setting('BENCH_ROUNDS', 3)
/** One a millisecond. */
const TIMER_TICKS = 5000
const PACED_PER_SECOND = 1000
const PACED_MS = 1000 * setting('BENCH_SECONDS', 20)

const perSecond = (ms: number) => (RECORDS / ms) * 1000

type Samples = Record<'append' | 'appendBuilt' | 'max', Measure[]>

interface Measure {
  readonly ms: number
  readonly cpuUs: number
}

export async function replayBench(): Promise<Figure[]> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'))
  const path = join(folder, 'bench.mrec')
  const samples: Samples = { append: [], appendBuilt: [], max: [] }
  try {
    let recorded: Measure = { ms: Number.NaN, cpuUs: Number.NaN }
    await withBed(async ({ log }) => {
      await log.createTopic('bench', 1)
      await appendBatches(log)
      recorded = await measured(() => recordAll(log, path))
    })
    for (let round = 0; round < ROUNDS; round++) {
      process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`)
      samples.append.push(await onEmptyLog(appendBatches))
      const built = [...builtBatches()]
      samples.appendBuilt.push(await onEmptyLog(log => appendBatches(log, built)))
      samples.max.push(await onEmptyLog(log => replayAll(log, path, { kind: 'max' })))
    }
    const { size } = await stat(path)
    return [
      { name: 'record', value: perSecond(recorded.ms), unit: 'records/s' },
      { name: 'recordingBytes', value: size / RECORDS, unit: 'B/record' },
      ...rateFigures(samples),
      ...(await pacedFigures(path)),
    ]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Measures what fills an empty log with all the records. */
async function onEmptyLog(fill: (log: EventLog) => Promise<unknown>): Promise<Measure> {
  let result: Measure | undefined
  await withBed(async ({ log }) => {
    await log.createTopic('bench', 1)
    result = await measured(async () => void (await fill(log)))
    const [range] = await log.offsets([{ topic: 'bench', partition: 0 }])
    if (range?.endOffset !== RECORDS) throw new Error(`${range?.endOffset} of ${RECORDS} arrived`)
  })
  return result!
}

async function recordAll(log: EventLog, path: string): Promise<void> {
  const file = await createRecordingFile(path)
  const topics = await describeTopics(log, ['bench'], 'beginning')
  const source = { kind: 'embedded', incarnation: log.incarnation }
  const header = { version: VERSION, createdMs: 0, source, topics }
  const writer = await RecordingWriter.create(file, header)
  const offsets = nextOffsets({ header, blocks: [] })
  await record({ source: log, writer, environment, offsets, toEnd: true })
  await writer.finish()
  await file.close()
}

async function replayAll(
  log: EventLog,
  path: string,
  pace: Pace,
  signal?: AbortSignal,
): Promise<ReplayReport> {
  const file = await openRecordingFile(path)
  const report = await replay({
    recording: await openRecording(file),
    target: logTarget('embedded', log),
    environment: { clock: steadyClock, schedule: environment.schedule },
    pace,
    ...(signal && { signal }),
  })
  await file.close()
  if (report.failure !== null) throw new Error(report.failure.message)
  return report
}

/** How late a bare timer is on this machine now, ms: what no replay can be better than. */
async function timerLateness(): Promise<number> {
  const late: number[] = []
  const startMs = steadyClock()
  while (late.length < TIMER_TICKS) {
    const dueMs = startMs + late.length
    const waitMs = dueMs - steadyClock()
    if (waitMs > 0) await new Promise<void>(wake => void environment.schedule(wake, waitMs))
    for (const nowMs = steadyClock(); startMs + late.length <= nowMs; ) {
      late.push(nowMs - startMs - late.length)
    }
  }
  return late.sort((a, b) => a - b)[Math.floor(late.length * 0.99)]!
}

/** Paced for a while: how far from its time each record was handed over. */
async function pacedFigures(path: string): Promise<Figure[]> {
  process.stderr.write(`${PACED_PER_SECOND} records/s for ${PACED_MS / 1000} s\n`)
  let report: ReplayReport | undefined
  let timerP99 = Number.NaN
  await withBed(async ({ log }) => {
    timerP99 = await timerLateness()
    const ended = new AbortController()
    environment.schedule(() => ended.abort(), PACED_MS)
    report = await replayAll(log, path, { kind: 'rate', perSecond: PACED_PER_SECOND }, ended.signal)
  })
  const { latenessMs, ackMs, reachedRate } = report!
  const about = `${PACED_PER_SECOND} records/s asked for`
  return [
    { name: 'pacedRate', value: reachedRate, unit: `records/s, ${about}` },
    { name: 'timerP99', value: timerP99, unit: 'ms: a bare timer on this machine, just before' },
    { name: 'latenessP50', value: latenessMs!.p50, unit: 'ms after it was due' },
    { name: 'latenessP99', value: latenessMs!.p99, unit: 'ms' },
    { name: 'latenessMax', value: latenessMs!.max, unit: 'ms' },
    { name: 'ackP99', value: ackMs!.p99, unit: 'ms from there' },
  ]
}

function rateFigures({ append, appendBuilt, max }: Samples): Figure[] {
  const rate = (measures: readonly Measure[]) => median(measures.map(({ ms }) => perSecond(ms)))
  const cpu = (measures: readonly Measure[]) => median(measures.map(({ cpuUs }) => cpuUs)) / RECORDS
  return [
    { name: 'append', value: rate(append), unit: 'records/s' },
    { name: 'appendBuilt', value: rate(appendBuilt), unit: 'records/s, batches built beforehand' },
    { name: 'replayMax', value: rate(max), unit: 'records/s' },
    { name: 'appendCpu', value: cpu(append), unit: 'µs/record' },
    { name: 'replayCpu', value: cpu(max), unit: 'µs/record' },
    { name: 'ratioMaxToAppend', value: rate(max) / rate(append), unit: 'of the rate' },
    { name: 'ratioMaxToAppendBuilt', value: rate(max) / rate(appendBuilt), unit: 'of the rate' },
  ]
}
