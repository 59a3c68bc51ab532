/** `millrace replay`: sends a recording at the pace asked for, and reports what was reached. */
import { lineCatalogue } from '../contracts/errors.ts'
import { futureMsMax } from '../contracts/validation.ts'
import { type ErrorRow, reasonOf } from '../log/errors.ts'
import type { EventLog } from '../log/port.ts'
import { recordingCatalogue } from '../recording/errors.ts'
import type { Percentiles, ReplayProgress, ReplayReport } from '../recording/meter.ts'
import type { Pace, Plan } from '../recording/plan.ts'
import { openRecording, type Recording } from '../recording/reader.ts'
import { replay } from '../recording/replay.ts'
import { encodePosition } from '../streams/position.ts'
import { type Command, type Invocation, jsonSwitch, type Terminal } from './command.ts'
import { effects, steadyClock } from './effects.ts'
import { changeEvent } from './event-changes.ts'
import { Flags, wholeNumber } from './flags.ts'
import { kafkaAccessSettings } from './log-access.ts'
import { ProgressLine } from './progress-line.ts'
import { countText, msText, timeText } from './quantities.ts'
import { connectRecordedSchemas, requireOwnSchemas } from './recorded-schemas.ts'
import { openRecordingFile } from './recording-file.ts'
import { openTarget } from './replay-targets.ts'
import { readSettings } from './settings.ts'
import { exitCodeOf, watchSignals } from './signals.ts'

const replaySettings = ['dataDir', 'apiKey', 'registryUrl', ...kafkaAccessSettings] as const

export const replayCommand: Command = {
  name: 'replay',
  operands: 'FILE.mrec',
  operandsMin: 1,
  operandsMax: 1,
  summary: 'Sends a recording, and reports rate, lateness and acknowledgements.',
  settings: replaySettings,
  switches: [
    { name: 'speed', placeholder: 'FACTOR', meaning: '1 as it was (unless given), 10, 0.5 or max' },
    { name: 'rate', placeholder: 'N/s', meaning: 'so many records a second instead' },
    { name: 'to', placeholder: 'TARGET', meaning: 'kafka://HOST:PORT, http://… or a folder' },
    { name: 'rewrite-time', placeholder: 'now', meaning: 'moves event times to now' },
    { name: 'loop', placeholder: 'N', meaning: 'sends it N times, later passes as new events' },
    jsonSwitch,
  ],
  examples: [
    'millrace replay run.mrec --to ./fresh --speed max',
    'millrace replay run.mrec --to kafka://127.0.0.1:9092 --rate 5000/s --rewrite-time now',
    'millrace replay run.mrec --to http://127.0.0.1:8080 --speed 10 --json',
  ],
  run,
}

async function run({ flags: values, operands, terminal }: Invocation): Promise<number> {
  const settings = readSettings(replaySettings, values, terminal.environment)
  const flags = new Flags('replay', values)
  const pace = paceOf(flags)
  const passes = flags.parsed('loop', wholeNumber) ?? 1
  const rewriteNow = flags.parsed('rewrite-time', onlyNow) ?? false
  const calledOff = callOff(terminal)
  const file = await openRecordingFile(operands[0]!)
  const progress = new ProgressLine(terminal, 0)
  try {
    const recording = await openRecording(file)
    warnOfDamage(recording, terminal)
    const { target, log, close } = await openTarget(settings, flags.text('to'))
    try {
      // Nobody looks into events that go out as they are.
      if (rewriteNow || passes > 1 || log === undefined) {
        const { registryUrl } = settings
        const { signal, by } = calledOff
        const connected = connectRecordedSchemas(recording, { registryUrl, to: 'write', signal })
        await connected.catch(error => {
          if (!signal.aborted) throw error
        })
        if (signal.aborted) return exitCodeOf(by())
        await requireOwnSchemas(recording)
      }
      const report = await replay({
        recording,
        target,
        environment: { clock: steadyClock, schedule: effects.schedule },
        pace,
        passes,
        rewriteNow,
        changeRecord: changeEvent,
        signal: calledOff.signal,
        giveUp: calledOff.giveUp,
        onStart: plan => announce(plan, target.name, terminal),
        onProgress: state => progress.show(() => progressText(state)),
      })
      progress.end()
      const { damage } = recording
      if (flags.has('json')) {
        const isAnswered = log !== undefined && report.unanswered === 0
        const position = isAnswered ? await positionOf(log, recording, terminal) : null
        const all = { file: file.path, target: target.name, ...report, position }
        terminal.out(`${JSON.stringify({ ...all, damage: damage ?? null })}\n`)
      } else terminal.out(reportText(report, target.name))
      if (!isDone(report) || damage?.isTorn === false) return 1
      return report.interrupted ? exitCodeOf(calledOff.by()) : 0
    } finally {
      await close()
    }
  } finally {
    progress.end()
    await file.close()
  }
}

/** The first signal ends the replay, another one the wait for what was sent. */
function callOff(terminal: Terminal) {
  const [first, second] = [new AbortController(), new AbortController()]
  let by: NodeJS.Signals = 'SIGINT'
  const onSignal = (signal: NodeJS.Signals) => {
    by = signal
    terminal.err('Ends once what was sent is answered; Ctrl-C again waits no longer.\n')
    first.abort()
  }
  void watchSignals(onSignal, () => second.abort())
  return { signal: first.signal, giveUp: second.signal, by: () => by }
}

function isDone({ failure, refused }: ReplayReport): boolean {
  return failure === null && Object.keys(refused).length === 0
}

function paceOf(flags: Flags): Pace {
  if (flags.has('speed') && flags.has('rate')) throw flags.usage('--speed and --rate: one of them.')
  const perSecond = flags.parsed('rate', text => positive(text.replace(/\/s$/, '')))
  if (perSecond !== undefined) return { kind: 'rate', perSecond }
  if (flags.text('speed') === 'max') return { kind: 'max' }
  return { kind: 'speed', factor: flags.parsed('speed', positive) ?? 1 }
}

function positive(text: string): number {
  const value = /^\d{1,9}(\.\d{1,6})?$/.test(text) ? Number(text) : 0
  if (value > 0) return value
  throw new Error('a number above 0')
}

function onlyNow(text: string): boolean {
  if (text === 'now') return true
  throw new Error('now')
}

function warnOfDamage({ file, damage }: Recording, terminal: Terminal): void {
  if (damage === undefined) return
  const { position, reason, isTorn } = damage
  const what = isTorn ? 'was interrupted' : 'is damaged'
  terminal.err(`${file.path} ${what} at byte ${position} (${reason}): what is before it is sent.\n`)
}

function announce(plan: Plan, target: string, terminal: Terminal): void {
  const { records, lengthMs, lastEventMs } = plan
  const time = lengthMs > 0 ? `, in ${msText(lengthMs)}` : ''
  terminal.err(`${countText(records)} records to ${target}${time}\n`)
  if (lastEventMs > effects.clock() + lengthMs + futureMsMax) {
    terminal.err(
      `The last events are of ${timeText(lastEventMs)}: what is more than a day ahead is refused as being in the future. --rewrite-time now avoids that.\n`,
    )
  }
}

function progressText(state: ReplayProgress): string {
  const { acknowledged, planned, reachedRate, askedRate, lateness, refused } = state
  const asked = askedRate === undefined ? '' : ` of ${countText(askedRate)}`
  const late = lateness === null ? '' : `, late p99 ${msText(lateness.p99)}`
  const no = refused === 0 ? '' : `, ${countText(refused)} refused`
  const share = Math.floor((100 * acknowledged) / Math.max(1, planned))
  return `${share} %, ${countText(reachedRate)}${asked} a second${late}${no}`
}

/** What covers all that the topics hold now; null where the log does not tell. */
async function positionOf(
  log: EventLog,
  { header }: Recording,
  terminal: Terminal,
): Promise<string | null> {
  const offsets: Record<string, number[]> = {}
  try {
    for (const { name: topic, partitions } of header.topics) {
      const targets = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
      offsets[topic] = (await log.offsets(targets)).map(range => range.highWatermark)
    }
  } catch (error) {
    // The log of a replay that failed may be away; the report is wanted then above all.
    terminal.err(`The position is not known: ${reasonOf(error)}\n`)
    return null
  }
  return encodePosition({ incarnation: log.incarnation, offsets })
}

/** Of refusals: what each code means. */
const rows: Readonly<Record<string, ErrorRow | undefined>> = {
  ...recordingCatalogue,
  ...lineCatalogue,
}

function reportText(report: ReplayReport, target: string): string {
  const { planned, acknowledged, elapsedMs, askedRate, reachedRate, keptUp } = report
  const lines = [
    `${countText(acknowledged)} of ${countText(planned)} records acknowledged by ${target} in ${msText(elapsedMs)}`,
    `rate        ${countText(reachedRate)} a second${askedRate === null ? '' : `, ${countText(askedRate)} asked for`}`,
    `lateness    ${percentilesText(report.latenessMs)}`,
    `ack         ${percentilesText(report.ackMs)}`,
    `both        ${percentilesText(report.responseMs)}`,
  ]
  for (const [code, records] of Object.entries(report.refused)) {
    const { message } = rows[code] ?? { message: '' }
    lines.push(`refused     ${countText(records)} records: ${code} ${message}`.trimEnd())
  }
  const { overdue, unanswered, interrupted, failure, sent } = report
  if (overdue > 0) {
    const what = 'records were due and not sent; the lateness has them, as of the end'
    lines.push(`overdue     ${countText(overdue)} ${what}`)
  }
  if (unanswered > 0) {
    const what = 'records were sent and not answered: they are there, or not'
    lines.push(`unanswered  ${countText(unanswered)} ${what}`)
  }
  if (interrupted) {
    lines.push(`INTERRUPTED ${countText(sent)} of ${countText(planned)} records were sent`)
  }
  if (failure !== null) {
    const { message, records } = failure
    lines.push(`FAILED      ${countText(records)} records were not acknowledged: ${message}`)
  } else if (keptUp === false) {
    lines.push('The target did not take the rate that was asked for: what it took is above.')
  }
  return `${lines.join('\n')}\n`
}

function percentilesText(all: Percentiles | null): string {
  if (all === null) return 'not measured: nothing was due at a time of its own'
  const { p50, p95, p99, max } = all
  return `p50 ${msText(p50)}, p95 ${msText(p95)}, p99 ${msText(p99)}, max ${msText(max)}`
}
