/** `millrace dead-letters`: what was put aside, listed and looked at, replayed and discarded. */
import { type Command, type Invocation, jsonSwitch } from './command.ts'
import { bodyOf, type Connection, connectionSettings, withConnection } from './connection.ts'
import { cliError } from './errors.ts'
import { readSettings } from './settings.ts'
import { textTable } from './text-table.ts'

type Json = Readonly<Record<string, unknown>>

const filters = ['application', 'state', 'reason', 'topic', 'step', 'from', 'to'] as const
const verbs = ['list', 'show', 'replay', 'discard'] as const

export const deadLettersCommand: Command = {
  name: 'dead-letters',
  operands: 'list | show ID | replay [ID …] | discard [ID …]',
  operandsMin: 1,
  operandsMax: 1001,
  summary:
    'Lists, shows, replays or discards records that were put aside; without an ID all that match.',
  settings: connectionSettings,
  switches: [
    { name: 'application', placeholder: 'NAME', meaning: 'of one application' },
    {
      name: 'state',
      placeholder: 'STATE',
      meaning: 'open (unless given), replayed, discarded, all',
    },
    { name: 'reason', placeholder: 'REASON', meaning: 'such as poison, late, null-key, duplicate' },
    { name: 'topic', placeholder: 'TOPIC', meaning: 'whose record it was' },
    { name: 'step', placeholder: 'STEP', meaning: 'that put it aside' },
    { name: 'from', placeholder: 'TIME', meaning: 'put aside from then on, epoch ms or ISO 8601' },
    { name: 'to', placeholder: 'TIME', meaning: 'put aside before' },
    { name: 'limit', placeholder: 'LETTERS', meaning: 'of a list, 1 to 1000, 100 unless given' },
    { name: 'cursor', placeholder: 'CURSOR', meaning: 'goes on after a list, same filters' },
    { name: 'all', meaning: 'replays or discards all open ones, without a filter' },
    { name: 'dry-run', meaning: 'says what would be replayed or discarded, and does nothing' },
    jsonSwitch,
  ],
  examples: [
    'millrace dead-letters list --reason poison --from 2026-01-01',
    'millrace dead-letters show analytics.17',
    'millrace dead-letters replay analytics.17',
    'millrace dead-letters replay --step orders-checked --dry-run',
    'millrace dead-letters discard --reason duplicate',
  ],
  async run(invocation) {
    const { operands, flags, terminal } = invocation
    const verb = verbs.find(known => known === operands[0])
    if (verb === undefined) throw usage(`It is one of ${verbs.join(', ')}, not ${operands[0]}.`)
    checkIds(verb, operands.slice(1))
    const settings = readSettings(connectionSettings, flags, terminal.environment)
    return withConnection(settings, connection => {
      if (verb === 'list') return list(connection, invocation)
      if (verb === 'show') return show(connection, invocation)
      return act(connection, verb, invocation)
    })
  },
}

function usage(reason: string): Error {
  return cliError('USAGE', { reason: `${reason}\nSee \`millrace dead-letters --help\`.` })
}

function checkIds(verb: (typeof verbs)[number], ids: readonly string[]): void {
  if (verb === 'list' && ids.length > 0) throw usage('A list takes filters and no ID.')
  if (verb === 'show' && ids.length !== 1) throw usage('Which one? Give its ID.')
}

function searchOf({ flags }: Invocation, more: readonly string[] = []): URLSearchParams {
  const search = new URLSearchParams()
  for (const name of [...filters, ...more]) {
    if (flags[name] !== undefined) search.append(name, String(flags[name]))
  }
  return search
}

async function list(connection: Connection, invocation: Invocation): Promise<number> {
  const { flags, terminal } = invocation
  const search = searchOf(invocation, ['limit', 'cursor'])
  const page = bodyOf(await connection.get(`/v1/dead-letters?${search}`))
  if (flags.json === true) {
    terminal.out(`${JSON.stringify(page)}\n`)
    return 0
  }
  const letters = page.deadLetters as readonly Json[]
  terminal.out(textTable(letters.map(rowOf)))
  if (page.next !== null) terminal.err(`more: --cursor ${page.next}\n`)
  return 0
}

function rowOf({
  id,
  state,
  reason,
  step,
  topic,
  partition,
  offset,
  attempts,
  detail,
}: Json): Json {
  const place = topic === null ? '' : `${topic}-${partition}@${offset}`
  const why = String(detail)
  const short = why.length > 60 ? `${why.slice(0, 59)}…` : why
  return { id, state, reason, step, record: place, attempts, detail: short }
}

async function show(connection: Connection, { operands, terminal }: Invocation): Promise<number> {
  const path = `/v1/dead-letters/${encodeURIComponent(operands[1])}`
  const { deadLetter } = bodyOf(await connection.get(path))
  terminal.out(`${JSON.stringify(deadLetter, null, 2)}\n`)
  return 0
}

/** Ends with 1 when one of them could not be. */
async function act(
  connection: Connection,
  verb: 'replay' | 'discard',
  invocation: Invocation,
): Promise<number> {
  const { flags, operands, terminal } = invocation
  const ids = operands.slice(1)
  const results =
    ids.length > 0 ? ofIds(connection, verb, invocation) : ofAll(connection, verb, invocation)
  const counts = { changed: 0, unchanged: 0, refused: 0 }
  for await (const result of results) {
    if (flags.json === true) terminal.out(`${JSON.stringify(result)}\n`)
    if (result.code !== undefined) {
      counts.refused++
      terminal.err(`${result.detail}\n`)
    } else counts[result.changed === true ? 'changed' : 'unchanged']++
  }
  const done = verb === 'replay' ? 'replayed' : 'discarded'
  const would = flags['dry-run'] === true ? 'would be ' : ''
  const before = counts.unchanged > 0 ? `, ${counts.unchanged} had been before` : ''
  const refused = counts.refused > 0 ? `, ${counts.refused} could not be` : ''
  terminal.err(`${counts.changed} ${would}${done}${before}${refused}\n`)
  return counts.refused > 0 ? 1 : 0
}

async function* ofIds(
  connection: Connection,
  verb: string,
  { operands, flags }: Invocation,
): AsyncGenerator<Json> {
  for (const id of operands.slice(1)) {
    const search = flags['dry-run'] === true ? '?dryRun=true' : ''
    const path = `/v1/dead-letters/${encodeURIComponent(id)}/${verb}${search}`
    const { status, body } = await connection.post(path)
    // What is wrong with one letter says nothing of the next.
    if (status === 404 || status === 409) yield { id, code: body.code, detail: body.detail }
    else yield bodyOf({ status, body })
  }
}

async function* ofAll(
  connection: Connection,
  verb: string,
  invocation: Invocation,
): AsyncGenerator<Json> {
  const { flags } = invocation
  const search = searchOf(invocation)
  if (flags.all === true) search.append('all', 'true')
  if (flags['dry-run'] === true) search.append('dryRun', 'true')
  search.append('limit', '1000')
  for (;;) {
    const page = bodyOf(await connection.post(`/v1/dead-letters/${verb}?${search}`))
    yield* page.results as readonly Json[]
    if (page.next === null) return
    search.set('cursor', String(page.next))
  }
}
