/** What every bench prints: machine, commit, versions, then figures as text and JSON. */
import { execFileSync } from 'node:child_process'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'

export const root = join(import.meta.dirname, '..')

export interface Figure {
  readonly name: string
  readonly value: number | boolean
  readonly unit: string
}

function commit(): string {
  try {
    const run = (...args: string[]) =>
      execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
    return (
      run('rev-parse', '--short', 'HEAD') + (run('status', '--porcelain') ? ' and changes' : '')
    )
  } catch {
    return 'unknown'
  }
}

export function machine(): Record<string, string | number> {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    commit: commit(),
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

const shown = (value: number | boolean) =>
  typeof value === 'boolean'
    ? String(value)
    : value >= 100
      ? Math.round(value).toLocaleString('en')
      : value.toPrecision(3)

/** Text to stderr; one line of JSON to stdout when asked for. */
export function report(bench: string, figures: readonly Figure[], json: boolean): void {
  const about = machine()
  process.stderr.write(
    `\n${bench}: ${about.cpu}, ${about.cores} cores, Node ${about.node}, commit ${about.commit}\n`,
  )
  for (const { name, value, unit } of figures) {
    process.stderr.write(`  ${name.padEnd(38)} ${shown(value).padStart(12)} ${unit}\n`)
  }
  if (!json) return
  const values = Object.fromEntries(figures.map(({ name, value }) => [name, value]))
  process.stdout.write(`${JSON.stringify({ bench, machine: about, ...values })}\n`)
}

/** User and system time of the process, µs, and wall time, ms, of a piece of work. */
export async function measured(work: () => Promise<void>): Promise<{ ms: number; cpuUs: number }> {
  const cpu = process.cpuUsage()
  const started = performance.now()
  await work()
  const { user, system } = process.cpuUsage(cpu)
  return { ms: performance.now() - started, cpuUs: user + system }
}
