/**
 * Child processes of the test run. Each runs in a process group of its own and carries a mark
 * in its environment, so that whatever it leaves behind can be found and ended, and nothing else.
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

export const root = join(import.meta.dirname, '../..')

const markName = 'MILLRACE_TEST_RUN'
const outerMark = process.env[markName]
const ownMark = `${process.pid}-${Date.now()}`
// A run within a run finds its own children only; the outer one finds them all.
const mark = outerMark === undefined ? ownMark : `${outerMark}/${ownMark}`

/** Where the commands of the machine are: its own Node, an older one too, not the project's. */
export const machinePath = (process.env.PATH ?? '')
  .split(delimiter)
  .filter(folder => !folder.includes('node_modules'))
  .join(delimiter)

/** The environment of every child: the project's own binaries first, and the mark. */
export const childEnvironment: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: join(root, 'node_modules/.bin') + delimiter + (process.env.PATH ?? ''),
  [markName]: mark,
}

export interface ProcessResult {
  /** Exit code; 124 after a time-out, 128 after a signal, 127 when it could not start. */
  readonly code: number
  /** Both output streams in the order they came; empty when they were shown instead. */
  readonly output: string
  readonly elapsedMs: number
}

export interface ProcessOptions {
  readonly timeoutMs: number
  /** Passes the output through instead of keeping it. */
  readonly show?: boolean
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

const groups = new Set<number>()

function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Already gone.
  }
}

/** Ends every group still running; for the way out after a signal. */
export function endGroups(): void {
  for (const pid of groups) endGroup(pid)
}

/** Runs a command to its end, without standard input, and ends its whole group afterwards. */
export function runProcess(
  command: string,
  args: readonly string[],
  options: ProcessOptions,
): Promise<ProcessResult> {
  const startedMs = Date.now()
  const chunks: Buffer[] = []
  return new Promise(resolve => {
    const stream = options.show ? 'inherit' : 'pipe'
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: { ...childEnvironment, ...options.env },
      stdio: ['ignore', stream, stream],
      detached: true,
    })
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      if (child.pid !== undefined) endGroup(child.pid)
    }, options.timeoutMs)
    const finish = (code: number, note = '') => {
      clearTimeout(timer)
      if (child.pid !== undefined) {
        endGroup(child.pid)
        groups.delete(child.pid)
      }
      const late = timedOut ? `\nstopped after ${options.timeoutMs} ms` : note
      const output = Buffer.concat(chunks).toString() + late
      resolve({ code: timedOut ? 124 : code, output, elapsedMs: Date.now() - startedMs })
    }
    if (child.pid !== undefined) groups.add(child.pid)
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.on('error', error => finish(127, `${command}: ${error.message}`))
    // `exit`, not `close`: a stray that holds the pipe must not hold the run.
    child.on('exit', code => setImmediate(finish, code ?? 128))
  })
}

/** Processes of this run that are still alive; empty where there is no /proc. */
export function strays(): { readonly pid: number; readonly command: string }[] {
  const found: { pid: number; command: string }[] = []
  let entries: string[] = []
  try {
    entries = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  } catch {
    return found
  }
  for (const name of entries) {
    if (Number(name) === process.pid) continue
    try {
      const environment = readFileSync(`/proc/${name}/environ`, 'utf8').split('\0')
      const own = environment.find(line => line.startsWith(`${markName}=`))?.split('=')[1]
      if (own !== mark && !own?.startsWith(`${mark}/`)) continue
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
      if (command !== '') found.push({ pid: Number(name), command })
    } catch {
      // Ended meanwhile, or another user's.
    }
  }
  return found
}

/** Ends what the run left behind and tells what it was. */
export function endStrays(): readonly string[] {
  return strays().map(({ pid, command }) => {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // Ended meanwhile.
    }
    return `${pid} ${command.slice(0, 120)}`
  })
}
