/**
 * `startup`: `npm start` to its ready line, and from there to the first row of a view: on an empty
 * folder, and again on what that run left behind a kill -9.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Figure, medianOf, root } from './report.ts'
import { setting } from './settings.ts'

const ROUNDS = setting('BENCH_ROUNDS', 3)
/** Of demo data that the second start finds. */
const RUN_MS = 5_000
const ROWS = '/v1/views/order-volume/rows?limit=1'
const WAIT_MS_MAX = 60_000

interface Started {
  readonly readyMs: number
  readonly rowMs: number
}

export async function startup(): Promise<Figure[]> {
  const first: Started[] = []
  const second: Started[] = []
  for (let round = 1; round <= ROUNDS; round++) {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-startup-'))
    try {
      first.push(await start(folder, RUN_MS))
      second.push(await start(folder, 0))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
    const ms = [first.at(-1)!, second.at(-1)!].map(({ readyMs }) => Math.round(readyMs))
    process.stderr.write(`startup: ready after ${ms[0]} ms, again after ${ms[1]} ms\n`)
  }
  const figure = (name: string, list: readonly Started[], field: keyof Started): Figure => {
    return medianOf(
      name,
      list.map(one => one[field]),
      'ms after `npm start`',
    )
  }
  return [
    figure('ready', first, 'readyMs'),
    figure('firstRow', first, 'rowMs'),
    figure('readyAgain', second, 'readyMs'),
    figure('firstRowAgain', second, 'rowMs'),
  ]
}

/** Starts the main job on a folder; after `runMs` it is killed. */
async function start(folder: string, runMs: number): Promise<Started> {
  const startedMs = performance.now()
  const child = spawn('npm', ['start', '--silent'], {
    cwd: root,
    env: { ...process.env, PORT: '0', DATA_DIR: folder },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  })
  const exited = once(child, 'exit')
  try {
    const url = await readyUrl(child)
    const readyMs = performance.now() - startedMs
    let rowMs = readyMs
    for (; !(await hasRow(url)); rowMs = performance.now() - startedMs) {
      if (rowMs > WAIT_MS_MAX) throw new Error(`no row of ${ROWS} in a minute`)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    await new Promise(resolve => setTimeout(resolve, runMs))
    return { readyMs, rowMs }
  } finally {
    process.kill(-child.pid!, 'SIGKILL')
    await exited
  }
}

async function readyUrl(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) {
    const url = /http:\/\/\S+/.exec(line)?.[0]
    if (url !== undefined) return url
  }
  throw new Error('npm start ended without a ready line')
}

async function hasRow(url: string): Promise<boolean> {
  const response = await fetch(new URL(ROWS, url))
  if (!response.ok) return false
  const { rows } = (await response.json()) as { rows: unknown[] }
  return rows.length > 0
}
