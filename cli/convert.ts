/** `millrace convert`: a recording into lines of JSON, and such lines into a recording. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { finished } from 'node:stream/promises'
import { openRecording, type Recording } from '../recording/reader.ts'
import { timeline } from '../recording/timeline.ts'
import { type Command, columns, type Invocation, type Terminal } from './command.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { Flags, wholeNumber } from './flags.ts'
import { recordLines, type Survey, surveyLines } from './lines-recording.ts'
import { countText } from './quantities.ts'
import { recordLine } from './record-lines.ts'
import { createRecordingFile, openRecordingFile } from './recording-file.ts'

const PARTITIONS = 4

export const convertCommand: Command = {
  name: 'convert',
  operands: 'FROM TO',
  operandsMin: 2,
  operandsMax: 2,
  summary:
    'A recording (.mrec) into lines of JSON (`-` to standard output) or Parquet; lines into a recording.',
  settings: [],
  switches: [
    {
      name: 'partitions',
      placeholder: 'NUMBER',
      meaning: `of topics made from lines of events, ${PARTITIONS} unless given`,
    },
  ],
  examples: [
    'millrace convert run.mrec run.ndjson',
    'millrace convert run.mrec - | grep PaymentDeclined',
    'millrace convert run.mrec run.parquet',
    'millrace convert run.ndjson again.mrec --partitions 4',
  ],
  run,
}

async function run({ flags: values, operands, terminal }: Invocation): Promise<number> {
  const flags = new Flags('convert', values)
  const [from, to] = operands as [string, string]
  const [isRecording, isToRecording] = [from.endsWith('.mrec'), to.endsWith('.mrec')]
  if (isRecording === isToRecording) {
    throw flags.usage('One of the two is a recording, and its name ends with .mrec.')
  }
  if (isRecording) return fromRecording(from, to, terminal)
  if (from.endsWith('.parquet')) throw flags.usage('A Parquet file is written, and not read.')
  const partitions = flags.parsed('partitions', wholeNumber) ?? PARTITIONS
  return toRecording({ from, to, partitions, terminal })
}

async function fromRecording(from: string, to: string, terminal: Terminal): Promise<number> {
  const file = await openRecordingFile(from)
  try {
    const recording = await openRecording(file)
    if (to !== '-') await claim(to)
    const write = to.endsWith('.parquet') ? await parquetWriter() : writeLines
    const records = await write(to, recording)
    terminal.err(`${countText(records)} records\n`)
    const { damage } = recording
    if (damage !== undefined) {
      terminal.err(`${from} ends at byte ${damage.position}: ${damage.reason}.\n`)
    }
    return damage === undefined || damage.isTorn ? 0 : 1
  } finally {
    await file.close()
  }
}

/** Its library is of use here alone. */
async function parquetWriter() {
  return (await import('./parquet-file.ts')).writeParquet
}

/** Makes the file. Rejects with FILE_UNWRITABLE, also where there is one. */
async function claim(path: string): Promise<void> {
  try {
    await writeFile(path, '', { flag: 'wx' })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const reason = code === 'EEXIST' ? 'it exists already' : message
    throw cliError('FILE_UNWRITABLE', { path, reason }, { cause: error })
  }
}

async function writeLines(path: string, recording: Recording): Promise<number> {
  const out = path === '-' ? process.stdout : createWriteStream(path)
  let records = 0
  for await (const runs of timeline(recording)) {
    let lines = ''
    for (const { topic, partition, columns: all, start, end } of runs) {
      const place = { topic: recording.header.topics[topic]!.name, partition }
      for (let i = start; i < end; i++) lines += `${recordLine(place, all, i)}\n`
      records += end - start
    }
    if (!out.write(lines)) await once(out, 'drain')
  }
  if (path !== '-') await finished(out.end())
  return records
}

interface ToRecording {
  readonly from: string
  readonly to: string
  readonly partitions: number
  readonly terminal: Terminal
}

async function toRecording({ from, to, partitions, terminal }: ToRecording): Promise<number> {
  const survey = await reading(from, () => surveyLines(createReadStream(from), partitions))
  if (survey.problemCount > 0) {
    terminal.err(problemsText(survey))
    return 1
  }
  const file = await createRecordingFile(to)
  try {
    const { topics } = survey
    const source = createReadStream(from)
    const createdMs = effects.clock()
    const records = await recordLines({ source, file, topics, createdMs, newId: randomUUID })
    terminal.err(`${countText(records)} records\n`)
    return 0
  } catch (error) {
    await rm(to, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error
    const reason = (error as Error).message
    throw cliError('FILE_UNREADABLE', { path, reason }, { cause: error })
  }
}

function problemsText({ problems, problemCount }: Survey): string {
  const rows = problems.map(({ line, code, detail }) => [`line ${line}  ${code}`, detail] as const)
  const more =
    problemCount > problems.length ? `  and ${problemCount - problems.length} more\n` : ''
  return `Nothing was converted.\n${columns(rows).join('\n')}\n${more}`
}
