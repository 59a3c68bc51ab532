/** A contender of the reference job: its processes, what they used, and what they wrote. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { EventLog } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'

export interface Contender {
  readonly name: string
  readonly command: string
  /** Over that of the bench. */
  readonly env?: Readonly<Record<string, string>>
  /** One list of arguments a process. */
  readonly processes: readonly (readonly string[])[]
  readonly output: string
  readonly inputs: readonly string[]
  /** Its consumer group: what it has committed of the input. */
  readonly group: string
}

export interface Run {
  readonly inputsPerSecond: number
  /** µs of user and system time of all its processes. */
  readonly cpuPerInput: number
  /** Of all its processes. */
  readonly rssMiB: number
  readonly seconds: number
  readonly results: ReadonlyMap<string, string>
  /** What it printed of itself: `dropped`. */
  readonly told: ReadonlyMap<string, number>
}

/** The output's end has not moved for so long: nothing more will come. */
const QUIET_MS = 4_000
const POLL_MS = 20
const GIVE_UP_MS = 240_000
/** USER_HZ, which Linux fixes for what it tells programs. */
const TICKS_PER_SECOND = 100

/** Runs a contender over `inputs` records until its output is quiet, then ends it. */
export async function contend(log: EventLog, contender: Contender, inputs: number): Promise<Run> {
  const told = new Map<string, number>()
  const children = contender.processes.map(args => start(contender, args, told))
  const exited = Promise.all(children.map(child => once(child, 'exit')))
  try {
    const lastMs = await untilQuiet(log, contender, children)
    const usage = usageOf(children)
    for (const child of children) child.kill('SIGTERM')
    await exited
    const firstMs = told.get('first-fetch')
    if (firstMs === undefined) throw new Error(`${contender.name} fetched nothing`)
    const seconds = (lastMs - firstMs) / 1000
    return {
      ...usage,
      cpuPerInput: usage.cpuUs / inputs,
      inputsPerSecond: inputs / seconds,
      seconds,
      results: await lastOfEachKey(log, contender.output),
      told,
    }
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
}

/** What each process tells is added up; of first fetches the first counts. */
function start(
  { command, env }: Contender,
  args: readonly string[],
  told: Map<string, number>,
): ChildProcess {
  const stdio = ['ignore', 'pipe', 'inherit'] as const
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: [...stdio] })
  const lines = createInterface({ input: child.stdout! })
  lines.on('line', line => {
    const [name, text] = line.split(' ') as [string, string]
    const value = Number(text)
    const before = told.get(name)
    if (name === 'first-fetch') told.set(name, Math.min(value, before ?? value))
    else told.set(name, value + (before ?? 0))
  })
  return child
}

/** Wall time at which the committed end of the output last moved. */
async function untilQuiet(
  log: EventLog,
  contender: Contender,
  children: readonly ChildProcess[],
): Promise<number> {
  const { output, name } = contender
  const { partitions } = (await log.describeTopic(output))!
  const targets = Array.from({ length: partitions }, (_, partition) => ({
    topic: output,
    partition,
  }))
  const startedMs = Date.now()
  let movedMs = startedMs
  let end = 0
  for (;;) {
    const ranges = await log.offsets(targets)
    const now = ranges.reduce((sum, { endOffset }) => sum + endOffset, 0)
    const nowMs = Date.now()
    if (now !== end) {
      end = now
      movedMs = nowMs
    }
    const ended = children.find(({ exitCode, signalCode }) => exitCode !== null || signalCode)
    if (ended) throw new Error(`${name} ended with ${ended.signalCode ?? ended.exitCode}`)
    if (end > 0 && nowMs - movedMs > QUIET_MS && (await isDone(log, contender))) return movedMs
    if (nowMs - startedMs > GIVE_UP_MS) throw new Error(`${name} is not done: ${end} outputs`)
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
}

/** Its group has committed the end of every input partition. */
async function isDone(log: EventLog, { group, inputs }: Contender): Promise<boolean> {
  const targets = inputs.flatMap(topic => [0, 1, 2, 3].map(partition => ({ topic, partition })))
  const committed = await log.committed(group, targets)
  const ranges = await log.offsets(targets)
  return ranges.every(({ endOffset }, i) => (committed[i]?.offset ?? 0) >= endOffset)
}

function usageOf(children: readonly ChildProcess[]): { cpuUs: number; rssMiB: number } {
  const all = children.map(({ pid }) => usage(pid!))
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  return { cpuUs: sum(all.map(one => one.cpuUs)), rssMiB: sum(all.map(one => one.rssMiB)) }
}

export function usage(pid: number): { cpuUs: number; rssMiB: number } {
  // The name of the program, in parentheses, may hold spaces.
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  const ticks = Number(stat[11]) + Number(stat[12])
  const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return { cpuUs: (ticks / TICKS_PER_SECOND) * 1e6, rssMiB: Number(peak?.[1] ?? 0) / 1024 }
}

export async function lastOfEachKey(log: EventLog, topic: string): Promise<Map<string, string>> {
  const last = new Map<string, string>()
  const { partitions } = (await log.describeTopic(topic))!
  for (let partition = 0; partition < partitions; partition++) {
    const [range] = await log.offsets([{ topic, partition }])
    for (let offset = 0; offset < range!.endOffset; ) {
      const request = { topic, partition, offset, bytesMax: 1 << 22 }
      const [response] = await log.fetch([request], { waitMsMax: 1000 })
      const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
      for (const columns of runs) {
        for (let i = 0; i < columns.length; i++) {
          const { bytes } = columns
          last.set(
            bytes.latin1Slice(columns.keyStart[i]!, columns.keyEnd[i]!),
            bytes.latin1Slice(columns.valueStart[i]!, columns.valueEnd[i]!),
          )
        }
      }
      offset = Math.max(nextOffset, response!.nextOffset)
    }
  }
  return last
}
