/** `millrace convert`: a recording into lines of JSON, and such lines into a recording. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import { inputPartitions } from '../contracts/topics.ts'
import { MillraceError } from '../log/errors.ts'
import { topicConfig } from '../log/topics.ts'
import { recordingError } from '../recording/errors.ts'
import type { RecordedTopic } from '../recording/port.ts'
import { type DamagePlace, openRecording, type Recording } from '../recording/reader.ts'
import { type Chunk, timeline } from '../recording/timeline.ts'
import { type Command, columns, type Invocation, type Terminal } from './command.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { Flags, wholeNumber } from './flags.ts'
import { recordLines, type Survey, surveyLines } from './lines-recording.ts'
import { countText } from './quantities.ts'
import { recordLine } from './record-lines.ts'
import { connectRecordedSchemas, foreignSchema } from './recorded-schemas.ts'
import { createRecordingFile, openRecordingFile } from './recording-file.ts'
import { readSettings } from './settings.ts'
import { writeWhole } from './whole-file.ts'

const PARTITIONS_MAX = 10_000

export const convertCommand: Command = {
  name: 'convert',
  operands: 'FROM TO',
  operandsMin: 2,
  operandsMax: 2,
  summary:
    'A recording (.mrec) into lines of JSON (`-` to standard output) or Parquet; lines into a recording.',
  settings: ['registryUrl'],
  switches: [
    {
      name: 'partitions',
      placeholder: 'NUMBER',
      meaning: `of topics made from lines; otherwise ${inputPartitions}, or those of records that say theirs`,
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
  if (isRecording && flags.has('partitions')) {
    throw flags.usage('--partitions is of topics that are made from lines.')
  }
  if (isRecording) {
    const { registryUrl } = readSettings(['registryUrl'], values, terminal.environment)
    return fromRecording(from, to, { registryUrl, terminal })
  }
  if (from.endsWith('.parquet')) throw flags.usage('A Parquet file is written, and not read.')
  const partitions = flags.parsed('partitions', partitionCount)
  return toRecording({ from, to, partitions, terminal })
}

function partitionCount(text: string): number {
  const count = wholeNumber(text)
  if (count <= PARTITIONS_MAX) return count
  throw new Error(`at most ${PARTITIONS_MAX}`)
}

interface FromRecording {
  readonly registryUrl: string | undefined
  readonly terminal: Terminal
}

async function fromRecording(
  from: string,
  to: string,
  { registryUrl, terminal }: FromRecording,
): Promise<number> {
  const file = await openRecordingFile(from)
  try {
    const recording = await openRecording(file)
    await connectRecordedSchemas(recording, { registryUrl, to: 'read' })
    const readable = new Readable(recording)
    const records = await writeRecords(to, readable)
    terminal.err(`${countText(records)} records\n`)
    if (readable.foreign > 0) terminal.err(foreignText(readable.foreign))
    if (!to.endsWith('.parquet')) terminal.err(lostText(readable.topics))
    const { damage } = readable
    if (damage === undefined) return 0
    const { position, reason, isTorn } = damage
    const what = isTorn ? 'ends' : 'is damaged'
    terminal.err(
      `${from} ${what} at byte ${position}: ${reason}. What is before it was converted.\n`,
    )
    return isTorn ? 0 : 1
  } finally {
    await file.close()
  }
}

function foreignText(count: number): string {
  const which = `${countText(count)} of them have a schema id that is not of their ce_type here`
  return `${which}, and were written as bytes: name the registry of their log in REGISTRY_URL.\n`
}

/** What a recording made of the lines would have otherwise. */
function lostText(topics: readonly RecordedTopic[]): string {
  const lost = topics.flatMap(({ name, partitions, config }) => {
    const facts: string[] = []
    if (partitions !== inputPartitions) facts.push(partitionsText(partitions))
    if (!isDeepStrictEqual(config, topicConfig({}))) facts.push('settings of its own')
    return facts.length === 0 ? [] : [`${name} had ${facts.join(' and ')}`]
  })
  return lost.length === 0 ? '' : `Not in the lines: ${lost.join(', ')}.\n`
}

function partitionsText(count: number): string {
  return count === 1 ? '1 partition' : `${countText(count)} partitions`
}

/** A recording as far as it can be read. */
class Readable {
  readonly path: string
  readonly topics: readonly RecordedTopic[]
  readonly chunks: AsyncIterable<Chunk>
  damage: DamagePlace | undefined
  /** Events whose schema ids are of a registry that is not asked. */
  foreign = 0

  constructor(recording: Recording) {
    this.path = recording.file.path
    this.topics = recording.header.topics
    this.damage = recording.damage
    this.chunks = this.#chunks(recording)
  }

  async *#chunks(recording: Recording): AsyncGenerator<Chunk> {
    try {
      for await (const runs of timeline(recording)) {
        for (const { columns: all, start, end } of runs) {
          for (let i = start; i < end; i++) if (foreignSchema(all, i) !== undefined) this.foreign++
        }
        yield runs
      }
    } catch (error) {
      if (!(error instanceof MillraceError && error.code === 'RECORDING_DAMAGED')) throw error
      const { position, reason } = error.details
      this.damage = { position: Number(position), reason: String(reason), isTorn: false }
    }
  }
}

type WriteRecords = (
  path: string,
  topics: readonly RecordedTopic[],
  chunks: AsyncIterable<Chunk>,
) => Promise<number>

/** Rejects with FILE_UNWRITABLE, and with RECORDING_DAMAGED where there is nothing to write. */
async function writeRecords(to: string, readable: Readable): Promise<number> {
  const write: WriteRecords = to.endsWith('.parquet') ? await parquetWriter() : writeLines
  const convert = async (path: string) => {
    const records = await write(path, readable.topics, readable.chunks)
    const { path: from, damage } = readable
    if (records > 0 || damage === undefined || damage.isTorn) return records
    throw recordingError('RECORDING_DAMAGED', { path: from, ...damage })
  }
  return to === '-' ? convert(to) : writeWhole(to, convert)
}

/** Its library is of use here alone. */
async function parquetWriter() {
  return (await import('./parquet-file.ts')).writeParquet
}

const writeLines: WriteRecords = async (path, topics, chunks) => {
  const out = path === '-' ? standardOutput : await openLines(path)
  let records = 0
  try {
    for await (const runs of chunks) {
      let lines = ''
      for (const { topic, partition, columns: all, start, end } of runs) {
        const place = { topic: topics[topic]!.name, partition }
        for (let i = start; i < end; i++) lines += `${recordLine(place, all, i)}\n`
        records += end - start
      }
      await out.write(lines)
    }
  } finally {
    await out.close()
  }
  return records
}

interface LinesOut {
  write(lines: string): Promise<void>
  close(): Promise<void>
}

const standardOutput: LinesOut = {
  write: async lines => {
    if (!process.stdout.write(lines)) await once(process.stdout, 'drain')
  },
  close: async () => {},
}

async function openLines(path: string): Promise<LinesOut> {
  const file = await open(path, 'w')
  return { write: lines => file.appendFile(lines), close: () => file.close() }
}

interface ToRecording {
  readonly from: string
  readonly to: string
  readonly partitions: number | undefined
  readonly terminal: Terminal
}

async function toRecording({ from, to, partitions, terminal }: ToRecording): Promise<number> {
  const survey = await reading(from, () => surveyLines(createReadStream(from), partitions))
  if (survey.problemCount > 0) {
    terminal.err(problemsText(survey))
    return 1
  }
  const records = await writeWhole(to, async path => {
    await rm(path, { force: true })
    const file = await createRecordingFile(path)
    try {
      const { topics } = survey
      const source = createReadStream(from)
      const createdMs = effects.clock()
      return await recordLines({ source, file, topics, createdMs, newId: randomUUID })
    } finally {
      await file.close()
    }
  })
  const made = survey.topics.map(({ name, partitions }) => `${name} ${partitionsText(partitions)}`)
  terminal.err(`${countText(records)} records\n`)
  if (made.length > 0) terminal.err(`Topics, with default settings: ${made.join(', ')}\n`)
  return 0
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
