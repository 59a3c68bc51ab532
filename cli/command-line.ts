/** The commands of `millrace`. Exit codes: 0 done, 1 failed, 2 misused. */
import { readFileSync } from 'node:fs'
import { ContractError } from '../contracts/errors.ts'
import { MillraceError } from '../log/errors.ts'
import { type Command, commandHelp, overviewHelp, parseCommand, type Terminal } from './command.ts'
import { convertCommand } from './convert.ts'
import { deadLettersCommand } from './dead-letters.ts'
import { doctorCommand } from './doctor.ts'
import { importCommand } from './import.ts'
import { inspectCommand } from './inspect.ts'
import { queryCommand } from './query.ts'
import { recordCommand } from './record.ts'
import { replayCommand } from './replay.ts'
import { resetCommand } from './reset.ts'
import { startCommand } from './start.ts'
import { topicsCommand } from './topics.ts'
import { topologyCommand } from './topology.ts'
import { packagePath } from './version.ts'

const commands: readonly Command[] = [
  startCommand,
  importCommand,
  queryCommand,
  topicsCommand,
  topologyCommand,
  deadLettersCommand,
  resetCommand,
  doctorCommand,
  recordCommand,
  inspectCommand,
  replayCommand,
  convertCommand,
]

const terminal: Terminal = {
  environment: process.env,
  out: text => void process.stdout.write(text),
  err: text => void process.stderr.write(text),
  isInteractive: process.stderr.isTTY === true,
}

export async function runCommandLine(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const about = commands.find(command => command.name === rest[0])
    terminal.out(about === undefined ? overviewHelp(commands) : commandHelp(about))
    return name === undefined ? 2 : 0
  }
  if (name === '--version') {
    terminal.out(`${JSON.parse(readFileSync(packagePath, 'utf8')).version}\n`)
    return 0
  }
  const command = commands.find(candidate => candidate.name === name)
  if (command === undefined) {
    const known = commands.map(candidate => candidate.name).join(', ')
    terminal.err(`millrace: there is no command ${JSON.stringify(name)}. Commands: ${known}.\n`)
    return 2
  }
  try {
    const { flags, operands } = parseCommand(command, rest)
    if (flags.help === true) {
      terminal.out(commandHelp(command))
      return 0
    }
    return await command.run({ flags, operands, terminal })
  } catch (error) {
    terminal.err(`millrace: ${explain(error)}\n`)
    return misuse.has((error as { code?: string }).code ?? '') ? 2 : 1
  }
}

const misuse = new Set(['USAGE', 'SETTINGS_INVALID', 'API_KEYS_INVALID', 'BIND_REFUSED'])

/** Errors of the catalogue are sentences for people; the others are bugs and show their stack. */
function explain(error: unknown): string {
  if (error instanceof MillraceError || error instanceof ContractError) return error.message
  const { code, syscall, message, stack } = error as NodeJS.ErrnoException
  if (code !== undefined && syscall !== undefined) return `${message}.`
  return stack ?? String(error)
}
