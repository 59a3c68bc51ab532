/** What a command is, and how its arguments are read. */
import { parseArgs } from 'node:util'
import { cliError } from './errors.ts'
import { type Environment, flagOf, type SettingName, settingRows } from './settings.ts'

/** The process as commands see it; tests give another. */
export interface Terminal {
  readonly environment: Environment
  out(text: string): void
  err(text: string): void
  /** Whether standard error is a terminal, which shows progress. */
  readonly isInteractive: boolean
}

export interface Switch {
  readonly name: string
  readonly meaning: string
  /** Takes a value of this kind; a switch alone unless given. */
  readonly placeholder?: string
}

export interface Invocation {
  readonly flags: Readonly<Record<string, string | boolean | undefined>>
  readonly operands: readonly string[]
  readonly terminal: Terminal
}

export interface Command {
  readonly name: string
  /** Operands as the help shows them. */
  readonly operands: string
  readonly operandsMin: number
  readonly operandsMax: number
  readonly summary: string
  readonly settings: readonly SettingName[]
  readonly switches: readonly Switch[]
  readonly examples: readonly string[]
  /** Resolves with the exit code. */
  run(invocation: Invocation): Promise<number>
}

export const helpSwitch: Switch = { name: 'help', meaning: 'shows this help' }
export const jsonSwitch: Switch = { name: 'json', meaning: 'prints JSON' }

function usage(command: Command, reason: string): Error {
  return cliError('USAGE', {
    reason: `${reason}\nSee \`millrace ${command.name} --help\`.`,
  })
}

/** Reads the arguments after the command's name. Throws USAGE. */
export function parseCommand(
  command: Command,
  argv: readonly string[],
): Pick<Invocation, 'flags' | 'operands'> {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {}
  for (const name of command.settings) options[flagOf(name)] = { type: 'string' }
  for (const { name, placeholder } of [...command.switches, helpSwitch]) {
    options[name] = { type: placeholder === undefined ? 'boolean' : 'string' }
  }
  options.help.short = 'h'
  const { tokens } = parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  const flags: Record<string, string | boolean> = {}
  const operands: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value)
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined
    if (option === undefined) {
      const valid = Object.keys(options).map(name => `--${name}`)
      throw usage(command, `Unknown option ${token.rawName}. Options: ${valid.join(', ')}.`)
    }
    // Without its `=`, a value that begins with a dash is rather the next option.
    const swallowed = token.inlineValue === false && token.value?.startsWith('-')
    if (option.type === 'string' && (token.value === undefined || swallowed)) {
      throw usage(command, `Option ${token.rawName} needs a value.`)
    }
    if (option.type === 'boolean' && token.value !== undefined) {
      throw usage(command, `Option ${token.rawName} takes no value.`)
    }
    flags[token.name] = token.value ?? true
  }
  if (flags.help !== true) checkOperands(command, operands)
  return { flags, operands }
}

function checkOperands(command: Command, operands: readonly string[]): void {
  const { operandsMin, operandsMax } = command
  if (operands.length < operandsMin) {
    throw usage(command, `An operand is missing: millrace ${command.name} ${command.operands}`)
  }
  if (operands.length > operandsMax) {
    throw usage(command, `Unexpected operand ${JSON.stringify(operands[operandsMax])}.`)
  }
}

/** The help of one command: usage, options with their variables and defaults, examples. */
export function commandHelp(command: Command): string {
  const operands = command.operands === '' ? '' : ` ${command.operands}`
  const rows: [string, string][] = command.settings.map(name => {
    const { env, placeholder, meaning, initial } = settingRows[name]
    const fallback = initial === '' ? '' : `, ${initial} unless given`
    return [`--${flagOf(name)} ${placeholder}`, `${meaning} (${env}${fallback})`]
  })
  for (const { name, placeholder, meaning } of [...command.switches, helpSwitch]) {
    rows.push([`--${name}${placeholder === undefined ? '' : ` ${placeholder}`}`, meaning])
  }
  const lines = [
    `Usage: millrace ${command.name}${operands} [options]`,
    '',
    command.summary,
    '',
    'Options',
    ...columns(rows),
    '',
    'Examples',
    ...command.examples.map(example => `  ${example}`),
  ]
  return `${lines.join('\n')}\n`
}

export function overviewHelp(commands: readonly Command[]): string {
  const rows = commands.map(({ name, operands, summary }): [string, string] => [
    `${name} ${operands}`.trim(),
    summary,
  ])
  const lines = [
    'Usage: millrace COMMAND [options]',
    '',
    'Real-time analytics over event streams.',
    '',
    'Commands',
    ...columns(rows),
    '',
    '`millrace COMMAND --help` tells a command’s options. Exit codes: 0 done, 1 failed, 2 misused.',
  ]
  return `${lines.join('\n')}\n`
}

export function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`)
}
