/** `millrace import`: a file of event lines into the log. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { lineBytesMax } from '../contracts/ndjson.ts'
import { type Command, columns, jsonSwitch, type Terminal } from './command.ts'
import {
  type Answer,
  bodyOf,
  type Connection,
  connectionSettings,
  withConnection,
} from './connection.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { type LineChunk, lineChunks } from './line-chunks.ts'
import { ProgressLine } from './progress-line.ts'
import { readSettings } from './settings.ts'

interface RejectedLine {
  readonly line: number
  readonly code: string
  readonly detail: string
}

interface Totals {
  accepted: number
  rejectedCount: number
  /** The first ones. */
  readonly rejected: RejectedLine[]
  position: string | null
}

/** As many lines as an answer lists when all are refused. */
const CHUNK = { lines: 1000, bytes: 4 * 1024 * 1024, lineBytes: lineBytesMax + 1 }
const REJECTED_LISTED_MAX = 1000
const BUSY_TRIES_MAX = 60
const BUSY_PAUSE_MS = 500

export const importCommand: Command = {
  name: 'import',
  operands: 'FILE.ndjson',
  operandsMin: 1,
  operandsMax: 1,
  summary: 'Appends the events of a file, a JSON object a line; `-` reads standard input.',
  settings: connectionSettings,
  switches: [
    { name: 'allow-rejected', meaning: 'exits with 0 also when lines were rejected' },
    jsonSwitch,
  ],
  examples: [
    'millrace import events.ndjson',
    'gunzip -c events.ndjson.gz | millrace import - --allow-rejected --json',
  ],
  async run({ flags, operands, terminal }) {
    const settings = readSettings(connectionSettings, flags, terminal.environment)
    const { source, sizeBytes } = await openFile(operands[0])
    const totals: Totals = { accepted: 0, rejectedCount: 0, rejected: [], position: null }
    const progress = new ProgressLine(terminal)
    const startedMs = effects.clock()
    try {
      await withConnection(settings, async connection => {
        for await (const chunk of lineChunks(source, CHUNK)) {
          add(totals, await send(connection, chunk, totals), chunk)
          const { bytesRead } = chunk
          const ms = effects.clock() - startedMs
          progress.show(() => progressText(bytesRead, sizeBytes, totals, ms))
        }
      })
    } finally {
      progress.end()
      report(totals, flags.json === true, terminal)
    }
    return totals.rejectedCount === 0 || flags['allow-rejected'] === true ? 0 : 1
  },
}

async function openFile(
  path: string,
): Promise<{ source: AsyncIterable<Buffer>; sizeBytes: number }> {
  if (path === '-') return { source: process.stdin, sizeBytes: 0 }
  try {
    const { size, isDirectory } = await about(path)
    if (isDirectory) throw new Error('it is a folder')
    const source = createReadStream(path, { highWaterMark: 1 << 20 })
    // Opened now, so that a forbidden file is told before anything else happens.
    await new Promise((resolve, reject) => source.once('open', resolve).once('error', reject))
    return { source, sizeBytes: size }
  } catch (error) {
    const reason = (error as Error).message
    throw cliError('FILE_UNREADABLE', { path, reason }, { cause: error })
  }
}

async function about(path: string) {
  const found = await stat(path)
  return { size: found.size, isDirectory: found.isDirectory() }
}

async function send(
  connection: Connection,
  { bytes }: LineChunk,
  totals: Totals,
): Promise<Answer['body']> {
  for (let tries = 1; ; tries++) {
    const answer = await connection.post('/v1/events', 'application/x-ndjson', bytes)
    const { body } = answer
    if (answer.status === 400 && body.code === 'EVENTS_REJECTED') return body
    // The log is full of waiting writes, and took nothing of this chunk.
    const isBusy = answer.status === 503 && !body.accepted && body.code === 'LOG_BUSY'
    if (isBusy && tries < BUSY_TRIES_MAX) {
      await new Promise<void>(resolve => void effects.schedule(resolve, BUSY_PAUSE_MS))
      continue
    }
    if (typeof body.accepted === 'number' && answer.status >= 400) totals.accepted += body.accepted
    return bodyOf(answer)
  }
}

function add(totals: Totals, body: Answer['body'], { linesBefore }: LineChunk): void {
  const rejected = (body.rejected ?? []) as readonly RejectedLine[]
  totals.accepted += (body.accepted as number | undefined) ?? 0
  totals.rejectedCount += (body.rejectedCount as number | undefined) ?? rejected.length
  totals.position = (body.position as string | undefined) ?? totals.position
  for (const { line, code, detail } of rejected) {
    if (totals.rejected.length >= REJECTED_LISTED_MAX) break
    totals.rejected.push({ line: line + linesBefore, code, detail })
  }
}

function report(totals: Totals, json: boolean, terminal: Terminal): void {
  if (json) {
    terminal.out(`${JSON.stringify(totals)}\n`)
    return
  }
  const { accepted, rejectedCount, rejected } = totals
  terminal.out(`${accepted} accepted, ${rejectedCount} rejected\n`)
  if (rejected.length === 0) return
  const lines = columns(
    rejected.map(({ line, code, detail }) => [`line ${line}  ${code}`, detail] as const),
  )
  terminal.err(`${lines.join('\n')}\n`)
  const more = rejectedCount - rejected.length
  if (more > 0) terminal.err(`  and ${more} more\n`)
}

/** How far it is, as one line. */
function progressText(bytesRead: number, sizeBytes: number, totals: Totals, ms: number): string {
  const share = sizeBytes > 0 ? `${Math.floor((100 * bytesRead) / sizeBytes)} %, ` : ''
  const perSecond = Math.round((totals.accepted / Math.max(1, ms)) * 1000)
  const { accepted, rejectedCount } = totals
  return `${share}${accepted} accepted, ${rejectedCount} rejected, ${perSecond} a second`
}
