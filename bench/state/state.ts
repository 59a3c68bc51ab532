/**
 * `state`: an aggregate by random keys whose state is of 1 M, 10 M and 50 M rows, on the embedded
 * log with its changelog: inputs/s when every input reads and writes a random row, as a backlog,
 * and the memory of the process, as a part of what it may take. Each size is a process of its own
 * with the allocator's settings of `npm start`; all have grown when they are measured, in turn.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { cachedRowsBytes } from '../../cli/memory.ts'
import { startSettings } from '../environment.ts'
import { type Figure, median, medianOf } from '../report.ts'
import { setting, settings } from '../settings.ts'

const SIZES = settings('BENCH_ROWS', [1_000_000, 10_000_000, 50_000_000])
const ROUNDS = setting('BENCH_ROUNDS', 3)
const UPDATES = 1_000_000
/** `MEMORY` of the process; what of it is for cached rows follows as in the service. */
const MEMORY_MIB = 1024
/** A row, its changelog record and what RocksDB needs to merge them. */
const DISK_BYTES_PER_ROW = 450
/** Of what is free. */
const DISK_SHARE = 0.9

const say = (text: string) => process.stderr.write(`state: ${text}\n`)

interface Sized {
  readonly size: number
  readonly child: ChildProcess
  readonly lines: Interface
  readonly rates: number[]
  rssBytes: number
}

export async function stateBench(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-state-'))
  const all: Sized[] = []
  try {
    for (const size of sizesThatFit(folder)) {
      say(`growing to ${size} rows`)
      all.push(await grown(folder, size))
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const sized of all) await measure(sized)
    }
    return figures(all)
  } finally {
    for (const { child } of all) child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}

function sizesThatFit(folder: string): number[] {
  const { bavail, bsize } = statfsSync(folder)
  const fit: number[] = []
  let rowsLeft = Math.floor((bavail * bsize * DISK_SHARE) / DISK_BYTES_PER_ROW)
  for (const size of SIZES) {
    const rows = Math.min(size, rowsLeft)
    if (rows < size) say(`the disk has room for ${rows} of ${size} rows: that is the largest size`)
    if (rows > (fit.at(-1) ?? 0)) fit.push(rows)
    rowsLeft -= rows
  }
  return fit
}

async function grown(folder: string, size: number): Promise<Sized> {
  const script = join(import.meta.dirname, 'growing.ts')
  const args = [script, join(folder, `${size}`), `${size}`, `${cachedRowsBytes(MEMORY_MIB)}`]
  const env = { ...process.env, ...startSettings() }
  const child = spawn(process.execPath, args, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout! })
  const sized = { size, child, lines, rates: [], rssBytes: 0 }
  await answer(sized)
  return sized
}

/** Its next line. */
async function answer({ size, child, lines }: Sized): Promise<string> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the process of ${size} rows ended with ${code}`)
  })
  ended.catch(() => {})
  const [line] = await Promise.race([once(lines, 'line'), ended])
  return line
}

async function measure(sized: Sized): Promise<void> {
  sized.child.stdin!.write('\n')
  const [ms, rssBytes] = (await answer(sized)).split(' ').map(Number) as [number, number]
  const rate = (UPDATES / ms) * 1000
  sized.rates.push(rate)
  sized.rssBytes = rssBytes
  say(`${sized.size} rows: ${Math.round(rate)} inputs/s, ${Math.round(rssBytes / 2 ** 20)} MiB`)
}

function figures(all: readonly Sized[]): Figure[] {
  const list: Figure[] = []
  for (const { size, rates, rssBytes } of all) {
    const name = `${Math.round(size / 1e5) / 10}M`
    list.push(medianOf(`inputsPerSecond${name}`, rates, 'inputs/s'))
    const rssMiB = rssBytes / 2 ** 20
    list.push({ name: `rssMiB${name}`, value: rssMiB, unit: 'MiB at most' })
    list.push({ name: `rssOfBudget${name}`, value: rssMiB / MEMORY_MIB, unit: `of ${MEMORY_MIB}` })
  }
  const ratio = median(all.at(-1)!.rates) / median(all[0]!.rates)
  return [...list, { name: 'ratioLargest', value: ratio, unit: 'of the smallest size’s rate' }]
}
