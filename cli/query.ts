/** `millrace query`: rows of a view. */
import { type Command, type Invocation, jsonSwitch } from './command.ts'
import { bodyOf, connectionSettings, withConnection } from './connection.ts'
import { cliError } from './errors.ts'
import { readSettings } from './settings.ts'
import { textTable } from './text-table.ts'

/** Switches, and the query parameters that they give. */
const parameters = {
  from: 'from',
  to: 'to',
  'as-of': 'asOf',
  prefix: 'prefix',
  limit: 'limit',
  cursor: 'cursor',
} as const

export const queryCommand: Command = {
  name: 'query',
  operands: 'VIEW [FIELD=VALUE …]',
  operandsMin: 1,
  operandsMax: 20,
  summary: 'Prints rows of a view; FIELD=VALUE keeps those with that value of a key field.',
  settings: connectionSettings,
  switches: [
    { name: 'from', placeholder: 'TIME', meaning: 'first window start, epoch ms or ISO 8601' },
    { name: 'to', placeholder: 'TIME', meaning: 'window starts before it' },
    { name: 'as-of', placeholder: 'TIME', meaning: 'what was then, where the view is versioned' },
    { name: 'prefix', placeholder: 'TEXT', meaning: 'how the first key field begins' },
    { name: 'limit', placeholder: 'ROWS', meaning: 'rows a page, 1 to 1000, 100 unless given' },
    { name: 'cursor', placeholder: 'CURSOR', meaning: 'goes on after a page, same filters' },
    jsonSwitch,
  ],
  examples: [
    'millrace query order-volume',
    'millrace query order-volume region=north --from 2026-01-01T00:00Z --limit 1000 --json',
  ],
  async run(invocation) {
    const { flags, terminal } = invocation
    const settings = readSettings(connectionSettings, flags, terminal.environment)
    const path = pathOf(invocation)
    const page = await withConnection(settings, async connection =>
      bodyOf(await connection.get(path)),
    )
    if (flags.json === true) {
      terminal.out(`${JSON.stringify(page)}\n`)
      return 0
    }
    const rows = page.rows as readonly Readonly<Record<string, unknown>>[]
    terminal.out(textTable(rows.map(withTimes)))
    if (page.next !== null) terminal.err(`more rows: --cursor ${page.next}\n`)
    return 0
  },
}

function pathOf({ operands, flags }: Invocation): string {
  const [view, ...filters] = operands
  const search = new URLSearchParams()
  for (const filter of filters) {
    const at = filter.indexOf('=')
    if (at < 1) {
      const reason = `Expected FIELD=VALUE, got ${JSON.stringify(filter)}.`
      throw cliError('USAGE', { reason: `${reason}\nSee \`millrace query --help\`.` })
    }
    search.append(filter.slice(0, at), filter.slice(at + 1))
  }
  for (const [flag, parameter] of Object.entries(parameters)) {
    if (flags[flag] !== undefined) search.append(parameter, String(flags[flag]))
  }
  return `/v1/views/${encodeURIComponent(view)}/rows?${search}`
}

/** People read times better as times. */
function withTimes(row: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const shown: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(row)) {
    const isTime = /^window(Start|End)$|At$/.test(name) && typeof value === 'number'
    shown[name] = isTime ? new Date(value).toISOString() : value
  }
  return shown
}
