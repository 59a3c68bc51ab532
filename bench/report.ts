/** What every bench prints: machine, commit, versions, then figures as text and JSON. */
import { execFileSync } from 'node:child_process'
import { cpus, release, type as systemName, totalmem } from 'node:os'
import { join } from 'node:path'
import manifest from '../package.json' with { type: 'json' }

export const root = join(import.meta.dirname, '..')

export interface Figure {
  readonly name: string
  readonly value: number | boolean
  readonly unit: string
  /** What the value is the median of. */
  readonly rounds?: readonly number[]
}

/** Of a figure that was measured several times. */
export function medianOf(name: string, rounds: readonly number[], unit: string): Figure {
  return { name, value: median(rounds), unit, rounds }
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
    system: `${systemName()} ${release()}`,
    node: process.version,
    rocksdbNative: manifest.dependencies['rocksdb-native'],
    commit: commit(),
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** Who is compared with whom. */
export interface Sides {
  /** Before the names of the second's figures. */
  readonly prefix: string
  readonly ratios: string
}

export const peers: Sides = { prefix: 'kafkaStreams', ratios: 'ours ÷ Kafka Streams' }

/** Medians of both sides' rounds, and what the first's is of the second's. */
export function compared(
  { name, ratio, unit }: { name: string; ratio: string; unit: string },
  [mine, its]: readonly [readonly number[], readonly number[]],
  { prefix, ratios }: Sides,
): Figure[] {
  return [
    medianOf(name, mine, unit),
    medianOf(`${prefix}.${name}`, its, unit),
    { name: ratio, value: median(mine) / median(its), unit: ratios },
  ]
}

const shown = (value: number | boolean) =>
  typeof value === 'boolean'
    ? String(value)
    : value >= 100
      ? Math.round(value).toLocaleString('en')
      : value.toPrecision(3)

export interface ReportOptions {
  readonly json: boolean
  /** Of what else took part. */
  readonly versions?: Readonly<Record<string, string>>
}

/** Text to stderr; one line of JSON to stdout when asked for. */
export function report(
  bench: string,
  figures: readonly Figure[],
  { json, versions = {} }: ReportOptions,
): void {
  const { cpu, cores, ...others } = machine()
  const about = { ...others, ...versions }
  const told = Object.entries(about).map(([name, value]) => `${name} ${value}`)
  process.stderr.write(`\n${bench}: ${cpu}, ${cores} cores, ${told.join(', ')}\n`)
  for (const { name, value, unit, rounds = [] } of figures) {
    const each = rounds.length > 1 ? ` (median of ${rounds.map(shown).join(', ')})` : ''
    process.stderr.write(`  ${name.padEnd(38)} ${shown(value).padStart(12)} ${unit}${each}\n`)
  }
  if (!json) return
  const values = Object.fromEntries(
    figures.flatMap(({ name, value, rounds }) => [
      [name, value],
      ...(rounds === undefined ? [] : [[`${name}Rounds`, rounds]]),
    ]),
  )
  process.stdout.write(
    `${JSON.stringify({ bench, machine: { cpu, cores, ...about }, ...values })}\n`,
  )
}

/** User and system time of the process, µs, and wall time, ms, of a piece of work. */
export async function measured(work: () => Promise<void>): Promise<{ ms: number; cpuUs: number }> {
  const cpu = process.cpuUsage()
  const started = performance.now()
  await work()
  const { user, system } = process.cpuUsage(cpu)
  return { ms: performance.now() - started, cpuUs: user + system }
}
