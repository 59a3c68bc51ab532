/** The service as a process of its own, for end-to-end tests. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type MetricLine, metricLines } from './metrics.ts'
import { childEnvironment, type ProcessResult, root, runProcess } from './processes.ts'

const READY_MS_MAX = 120_000

/** A folder for data that is deleted with `remove`. */
export async function scratchFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'millrace-e2e-'))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface DeadLetter {
  readonly reason: string
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly step: string
  readonly detail: string
  readonly [more: string]: unknown
}

export class ServiceProcess {
  readonly url: string
  readonly child: ChildProcess
  readonly exited: Promise<Exit>
  readonly #output: { stdout: string; stderr: string }

  private constructor(parts: {
    url: string
    child: ChildProcess
    exited: Promise<Exit>
    output: { stdout: string; stderr: string }
  }) {
    this.url = parts.url
    this.child = parts.child
    this.exited = parts.exited
    this.#output = parts.output
  }

  get stdout(): string {
    return this.#output.stdout
  }

  get stderr(): string {
    return this.#output.stderr
  }

  /** Starts the service on a free port and waits for its ready line. */
  static async start(
    dataDir: string,
    flags: readonly string[] = [],
    environment: NodeJS.ProcessEnv = {},
  ): Promise<ServiceProcess> {
    const child = spawn('node', ['cli/main.ts', 'start', ...flags], {
      cwd: root,
      env: { ...childEnvironment, PORT: '0', DATA_DIR: dataDir, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const output = { stdout: '', stderr: '' }
    const exited = once(child, 'exit').then(([code, signal]): Exit => ({ code, signal }))
    child.stderr!.on('data', chunk => {
      output.stderr += chunk
    })
    const url = await new Promise<string>((resolve, reject) => {
      const fail = (reason: string) => reject(new Error(`${reason}\n${output.stderr}`))
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
        fail('no ready line in time')
      }, READY_MS_MAX)
      child.stdout!.on('data', chunk => {
        output.stdout += chunk
        const ready = /^millrace ready (http:\S+)$/m.exec(output.stdout)
        if (ready === null) return
        clearTimeout(timer)
        resolve(ready[1]!)
      })
      exited.then(({ code, signal }) => {
        clearTimeout(timer)
        fail(`ended with ${code ?? signal} before it was ready`)
      })
    })
    return new ServiceProcess({ url, child, exited, output })
  }

  async get<T>(path: string, headers: Record<string, string> = {}): Promise<T> {
    const response = await fetch(this.url + path, { headers })
    return (await response.json()) as T
  }

  /** Posts event lines; resolves with the position that covers them. */
  async post(lines: readonly string[]): Promise<string> {
    const response = await fetch(`${this.url}/v1/events?atomic=true`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: lines.join('\n'),
    })
    const body = (await response.json()) as { position: string }
    if (!response.ok) throw new Error(JSON.stringify(body))
    return body.position
  }

  /** Waits until the views cover a position. */
  async reach(position: string, waitMsMax: number): Promise<void> {
    const untilMs = Date.now() + waitMsMax
    for (;;) {
      const headers = { 'millrace-position': position }
      const response = await fetch(`${this.url}/v1/views?timeout=20000`, { headers })
      const { code } = (await response.json()) as { code?: string }
      if (response.ok) return
      if (code !== 'POSITION_TIMEOUT' || Date.now() > untilMs) throw new Error(code)
    }
  }

  /** All dead letters, newest first, once the views cover the position. */
  async deadLetters(position: string): Promise<DeadLetter[]> {
    const letters: DeadLetter[] = []
    for (let cursor = ''; ; ) {
      const page = await this.get<{ deadLetters: DeadLetter[]; next: string | null }>(
        `/v1/dead-letters?limit=1000${cursor}`,
        { 'millrace-position': position },
      )
      letters.push(...page.deadLetters)
      if (page.next === null) return letters
      cursor = `&cursor=${page.next}`
    }
  }

  async metrics(): Promise<MetricLine[]> {
    return metricLines(await (await fetch(`${this.url}/metrics`)).text())
  }

  /** All rows of a view, as of a position; at least `enough` of them where that is given. */
  async rows(
    view: string,
    position: string,
    enough = Number.POSITIVE_INFINITY,
  ): Promise<Record<string, unknown>[]> {
    const rows: Record<string, unknown>[] = []
    for (let cursor = ''; ; ) {
      const page = await this.get<{
        rows?: Record<string, unknown>[]
        next: string | null
        detail?: string
      }>(`/v1/views/${view}/rows?limit=1000${cursor}`, { 'millrace-position': position })
      if (page.rows === undefined) throw new Error(`${view}: ${page.detail}`)
      rows.push(...page.rows)
      if (page.next === null || rows.length >= enough) return rows
      cursor = `&cursor=${page.next}`
    }
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    await this.exited
  }

  async stop(): Promise<Exit> {
    this.child.kill('SIGTERM')
    return this.exited
  }
}

/** Runs a command of the `millrace` command line to its end. */
export function millrace(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<ProcessResult> {
  return runProcess('node', ['cli/main.ts', ...args], { timeoutMs: 180_000, env })
}
