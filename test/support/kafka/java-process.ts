/**
 * A Java program as a child that never outlives this process: a shell of its own session holds
 * our end of a pipe and kills the program when the pipe breaks, however we die.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { childEnvironment } from '../processes.ts'
import { javaPath } from './jars.ts'

export interface JavaProgram {
  readonly args: readonly string[]
  /** File that gets standard output and standard error. */
  readonly outputFile: string
  /** Folder that is deleted if this process dies without stopping the program. */
  readonly folderOfOrphan?: string
}

/** A line means "stopped in order"; the end of the pipe means that the parent died. */
const guardScript = `trap '' HUP INT TERM
read -r line && exit
kill -9 "$1"
[ -z "$2" ] || { sleep 1; rm -rf "$2"; }`

export class JavaProcess {
  /** Resolves with the exit code, or the signal's name. */
  readonly exited: Promise<number | string>
  readonly #child: ChildProcess
  #running = true

  constructor({ args, outputFile, folderOfOrphan }: JavaProgram) {
    const output = openSync(outputFile, 'a')
    // Both in sessions of their own: a terminal's Ctrl-C and the end of our group pass them by.
    this.#child = spawn(javaPath(), args, {
      env: childEnvironment,
      stdio: ['ignore', output, output],
      detached: true,
    })
    closeSync(output)
    const { pid } = this.#child
    this.exited = new Promise((resolve, reject) => {
      this.#child.once('error', reject)
      this.#child.once('exit', (code, signal) => {
        this.#running = false
        resolve(code ?? signal ?? 'unknown')
      })
    })
    if (pid === undefined) return
    const guard = spawn('/bin/sh', ['-c', guardScript, 'guard', `${pid}`, folderOfOrphan ?? ''], {
      env: childEnvironment,
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    })
    guard.stdin.on('error', () => {})
    this.exited.finally(() => guard.stdin.end('done\n')).catch(() => {})
  }

  get pid(): number {
    return this.#child.pid!
  }

  get running(): boolean {
    return this.#running
  }

  /** SIGTERM, and SIGKILL when that takes longer than `waitMsMax`. */
  async stop(waitMsMax = 30_000): Promise<void> {
    this.signal('SIGTERM')
    const timer = setTimeout(() => this.signal('SIGKILL'), waitMsMax)
    await this.exited
    clearTimeout(timer)
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL')
    await this.exited
  }

  signal(name: NodeJS.Signals): void {
    if (this.#running) this.#child.kill(name)
  }
}
