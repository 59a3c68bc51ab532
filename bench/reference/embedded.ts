/** The reference job on the embedded log, each run a process on a copy of one folder. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { EventLog } from '../../log/port.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { environment, startSettings } from '../environment.ts'
import { lastOfEachKey, type Run, usage } from './contender.ts'

async function withLog<T>(folder: string, work: (log: EventLog) => Promise<T>): Promise<T> {
  const database = await openRocksDB(folder)
  try {
    const log = await openEmbeddedLog(database, environment, { bootId: 'bench' })
    return await work(log).finally(() => log.close())
  } finally {
    await database.close()
  }
}

/** `produce` fills the log of the folder that the runs copy. */
export function prepareEmbedded(
  folder: string,
  produce: (log: EventLog) => Promise<number>,
): Promise<number> {
  return withLog(join(folder, 'prepared'), produce)
}

export async function runEmbedded(folder: string, round: number, inputs: number): Promise<Run> {
  const own = join(folder, `embedded-${round}`)
  cpSync(join(folder, 'prepared'), own, { recursive: true })
  const files = ['../kept.ts', 'embedded-instance.ts'].map(file => join(import.meta.dirname, file))
  const env = { ...process.env, ...startSettings() }
  const child = spawn(process.execPath, [...files, own], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const told = new Map<string, number>()
  for await (const line of createInterface({ input: child.stdout! })) {
    const [name, value] = line.split(' ') as [string, string]
    told.set(name, Number(value))
    if (name === 'last-commit') break
  }
  if (!told.has('last-commit')) throw new Error('the job on the embedded log ended before its end')
  const { cpuUs, rssMiB } = usage(child.pid!)
  child.kill('SIGKILL')
  await exited
  const seconds = (told.get('last-commit')! - told.get('first-fetch')!) / 1000
  const results = await withLog(own, log => lastOfEachKey(log, 'out'))
  const rates = { inputsPerSecond: inputs / seconds, cpuPerInput: cpuUs / inputs }
  return { ...rates, rssMiB, seconds, results, told }
}
