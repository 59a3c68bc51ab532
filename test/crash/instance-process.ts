/** An instance on Kafka as its crash test sees it: a process, its folder, what it says. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { childEnvironment, root } from '../support/processes.ts'
import type { InstanceArguments, InstanceCommand, InstanceEvent } from './kafka-instance.ts'

const codeCache = join(root, 'node_modules/.cache/millrace/code')

type EventOf<Name extends InstanceEvent['event']> = Extract<InstanceEvent, { event: Name }>

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export class InstanceProcess {
  readonly name: string
  readonly folder: string
  /** Of all its processes. */
  readonly errors: string[] = []
  readonly wipes: string[] = []
  /** Of the process that runs, or ran last. */
  running: EventOf<'running'> | undefined
  output = ''
  ended: Ended | undefined
  #child: ChildProcess | undefined
  #exited: Promise<Ended> = Promise.resolve({ code: 0, signal: null })
  #waiting: { readonly event: string; readonly resolve: (event: InstanceEvent) => void }[] = []
  /** A file of this folder that runs an instance. */
  readonly #script: string

  constructor(name: string, folder: string, script: string) {
    this.name = name
    this.folder = folder
    this.#script = join(root, 'test/crash', script)
  }

  get alive(): boolean {
    return this.#child !== undefined && this.ended === undefined
  }

  start(options: Omit<InstanceArguments, 'folder'>): void {
    const own: InstanceArguments = { ...options, folder: this.folder }
    const child = spawn(process.execPath, [this.#script, JSON.stringify(own)], {
      // As `cli/main.ts` has it.
      env: { ...childEnvironment, NODE_COMPILE_CACHE: codeCache },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#child = child
    this.ended = this.running = undefined
    this.output = ''
    child.stdin.on('error', () => {})
    child.stderr.on('data', chunk => {
      this.output += chunk
    })
    createInterface({ input: child.stdout }).on('line', line => this.#heard(JSON.parse(line)))
    this.#exited = once(child, 'exit').then(([code, signal]) => {
      this.ended = { code, signal }
      for (const { resolve } of this.#waiting.splice(0)) resolve({ event: 'stopped' })
      return this.ended
    })
  }

  #heard(event: InstanceEvent): void {
    if (event.event === 'running') this.running = event
    if (event.event === 'error') this.errors.push(event.text)
    if (event.event === 'wipe') this.wipes.push(`${this.name}: ${event.of}`)
    const waiting = this.#waiting.filter(one => one.event === event.event)
    // An answer is for who asked first; that it runs is for all who wait for it.
    const heard = event.event === 'running' ? waiting : waiting.slice(0, 1)
    this.#waiting = this.#waiting.filter(one => !heard.includes(one))
    for (const { resolve } of heard) resolve(event)
  }

  /** Undefined when the process has ended, or does not answer in time. */
  async ask<Name extends InstanceEvent['event']>(
    command: InstanceCommand,
    answer: Name,
    waitMsMax = 15_000,
  ): Promise<EventOf<Name> | undefined> {
    if (!this.alive) return undefined
    const heard = this.#next(answer, waitMsMax)
    this.#child!.stdin!.write(`${JSON.stringify(command)}\n`)
    const event = await heard
    return event?.event === answer ? (event as EventOf<Name>) : undefined
  }

  #next(event: string, waitMsMax: number): Promise<InstanceEvent | undefined> {
    return new Promise(resolve => {
      const waiting = { event, resolve: settle }
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter(one => one !== waiting)
        resolve(undefined)
      }, waitMsMax)
      function settle(heard: InstanceEvent): void {
        clearTimeout(timer)
        resolve(heard)
      }
      this.#waiting.push(waiting)
    })
  }

  /** True when it runs all its tasks within the time. */
  async untilRunning(waitMsMax: number): Promise<boolean> {
    if (this.alive && this.running === undefined) await this.#next('running', waitMsMax)
    return this.running !== undefined
  }

  /** Resolves with how it ended, or with undefined after the time. */
  async untilEnded(waitMsMax: number): Promise<Ended | undefined> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<undefined>(resolve => {
      timer = setTimeout(() => resolve(undefined), waitMsMax)
    })
    const ended = await Promise.race([this.#exited, late])
    clearTimeout(timer)
    return ended
  }

  /** True once the process stands still, within the time. */
  async untilStopped(waitMsMax: number): Promise<boolean> {
    const untilMs = Date.now() + waitMsMax
    while (this.alive && Date.now() < untilMs) {
      if (isStopped(this.#child!.pid!)) return true
      await sleep(20)
    }
    return false
  }

  signal(signal: NodeJS.Signals): void {
    if (this.alive) this.#child!.kill(signal)
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL')
    await this.#exited
  }

  loseFolder(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** By the kernel's account: `T` behind the name in brackets. */
function isStopped(pid: number): boolean {
  try {
    return /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
