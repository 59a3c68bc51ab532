/** `millrace record`: what a log has of some topics, into a file that `millrace replay` sends. */
import { rm } from 'node:fs/promises'
import { VERSION } from '../recording/format.ts'
import type { RecordSource } from '../recording/port.ts'
import { openRecording } from '../recording/reader.ts'
import {
  describeTopics,
  nextOffsets,
  type PartitionOffset,
  type RecordFrom,
  type RecordProgress,
  record,
  resumeWriter,
} from '../recording/recorder.ts'
import { RecordingWriter } from '../recording/writer.ts'
import { type Command, type Invocation, jsonSwitch } from './command.ts'
import { durationMs } from './durations.ts'
import { effects } from './effects.ts'
import { Flags, timeMs, wholeNumber } from './flags.ts'
import { kafkaAccessSettings } from './log-access.ts'
import { ProgressLine } from './progress-line.ts'
import { bytesText, countText } from './quantities.ts'
import { type OpenSource, openRecordSource } from './record-source.ts'
import { createRecordingFile, reopenRecordingFile } from './recording-file.ts'
import { readSettings } from './settings.ts'
import { watchSignals } from './signals.ts'
import { unwritable } from './whole-file.ts'

const recordSettings = ['dataDir', ...kafkaAccessSettings] as const

export const recordCommand: Command = {
  name: 'record',
  operands: '',
  operandsMin: 0,
  operandsMax: 0,
  summary: 'Records topics into a file, until a limit, the end of a folder at rest, or Ctrl-C.',
  settings: recordSettings,
  switches: [
    { name: 'topics', placeholder: 'TOPICS', meaning: 'what to record, comma separated' },
    { name: 'out', placeholder: 'FILE.mrec', meaning: 'where to; it must not exist' },
    { name: 'from', placeholder: 'PLACE', meaning: 'beginning (unless given), now, or a time' },
    { name: 'duration', placeholder: 'TIME', meaning: 'ends after it: 60s, 10m' },
    { name: 'records', placeholder: 'NUMBER', meaning: 'ends after so many records' },
    { name: 'to-end', meaning: 'ends where the topics ended at its start' },
    { name: 'resume', meaning: 'goes on with a recording that was interrupted or ended' },
    { name: 'from-kafka', placeholder: 'HOSTS', meaning: 'brokers to record from, host:port' },
    jsonSwitch,
  ],
  examples: [
    'millrace record --topics orders,payments --out run.mrec --duration 60s',
    'millrace record --topics orders --out run.mrec --from 2026-01-05T08:00Z --records 100000',
    'millrace record --topics orders --out run.mrec --from-kafka 127.0.0.1:9092 --to-end',
    'millrace record --out run.mrec --resume',
  ],
  run,
}

async function run({ flags: values, terminal }: Invocation): Promise<number> {
  const settings = readSettings(recordSettings, values, terminal.environment)
  const flags = new Flags('record', values)
  const limits = limitsOf(flags)
  const out = flags.required('out')
  const wanted = flags.has('resume') ? undefined : wantedOf(flags)
  const brokers = flags.text('from-kafka')
  const interrupted = new AbortController()
  void watchSignals(() => interrupted.abort())
  const opened = await openRecordSource(
    settings,
    brokers === undefined ? undefined : listOf(brokers),
  )
  const progress = new ProgressLine(terminal)
  const startedMs = effects.clock()
  try {
    const begun =
      wanted === undefined ? await resumed(out, opened.source) : await created(out, opened, wanted)
    const { writer, offsets, close } = begun
    try {
      const records = await record({
        source: opened.source,
        writer,
        offsets,
        environment: effects,
        ...limits,
        toEnd: flags.has('to-end') || opened.isAtRest,
        signal: interrupted.signal,
        onProgress: state => progress.show(() => progressText(state, startedMs)),
      })
      await writer.finish()
      progress.end()
      const report = { file: out, source: opened.name, records, sizeBytes: writer.sizeBytes }
      terminal.out(flags.has('json') ? `${JSON.stringify(report)}\n` : reportText(report))
    } finally {
      await close()
    }
  } finally {
    progress.end()
    await opened.close()
  }
  return 0
}

function progressText({ records, sizeBytes }: RecordProgress, startedMs: number): string {
  const rate = (records / Math.max(1, effects.clock() - startedMs)) * 1000
  return `${countText(records)} records, ${bytesText(sizeBytes)}, ${countText(rate)} a second`
}

interface Report {
  readonly file: string
  readonly source: string
  readonly records: number
  readonly sizeBytes: number
}

function reportText({ file, source, records, sizeBytes }: Report): string {
  return `${countText(records)} records of ${source} in ${file}, now ${bytesText(sizeBytes)}\n`
}

interface Begun {
  readonly writer: RecordingWriter
  readonly offsets: readonly PartitionOffset[]
  close(): Promise<void>
}

/** What a new recording is to have. */
interface Wanted {
  readonly topics: readonly string[]
  readonly from: RecordFrom
}

function wantedOf(flags: Flags): Wanted {
  const topics = new Set(listOf(flags.required('topics')))
  if (topics.size === 0) throw flags.usage('Option --topics names none.')
  const place = flags.text('from') ?? 'beginning'
  const isNamed = place === 'beginning' || place === 'now'
  const from = isNamed ? place : { timestampMs: flags.parsed('from', timeMs)! }
  return { topics: [...topics], from }
}

function listOf(text: string): string[] {
  const parts = text.split(',').map(part => part.trim())
  return parts.filter(part => part !== '')
}

async function created(path: string, opened: OpenSource, wanted: Wanted): Promise<Begun> {
  const { source, kind } = opened
  const topics = await describeTopics(source, wanted.topics, wanted.from)
  const file = await createRecordingFile(path)
  const createdMs = effects.clock()
  const { incarnation } = source
  const header = { version: VERSION, createdMs, source: { kind, incarnation }, topics }
  try {
    const writer = await RecordingWriter.create(file, header)
    return { writer, offsets: nextOffsets({ header, blocks: [] }), close: () => file.close() }
  } catch (error) {
    // Without a header there is nothing to go on with.
    await file.close()
    await rm(path, { force: true })
    throw unwritable(error, path)
  }
}

async function resumed(path: string, source: RecordSource): Promise<Begun> {
  const file = await reopenRecordingFile(path)
  try {
    const recording = await openRecording(file)
    const writer = await resumeWriter(recording, source)
    return { writer, offsets: nextOffsets(recording), close: () => file.close() }
  } catch (error) {
    await file.close()
    throw error
  }
}

function limitsOf(flags: Flags) {
  if (flags.has('resume') && (flags.has('from') || flags.has('topics'))) {
    throw flags.usage('--resume goes on with the topics, and at the place, of the recording.')
  }
  const length = flags.parsed('duration', text => durationMs(text, 'forever'))
  const recordsMax = flags.parsed('records', wholeNumber)
  return {
    ...(length !== undefined && { durationMs: length }),
    ...(recordsMax !== undefined && { recordsMax }),
  }
}
