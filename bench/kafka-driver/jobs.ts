/** What a contender's process is asked, and how it and Kafka's own tools are run. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { archiveFlags } from '../../test/support/kafka/class-archive.ts'
import { javaPath, kafkaClassPath } from '../../test/support/kafka/jars.ts'
import { RECORD_BYTES } from './records.ts'

export const TRANSACTION_MS = 100

export interface ConsumeJob {
  readonly contender: 'millrace' | 'kafkajs' | 'platformatic' | 'confluent'
  readonly bootstrap: string
  readonly topic: string
  readonly records: number
  /** Where `confluent` is installed. */
  readonly folder?: string
}

export interface ProduceJob {
  readonly contender: 'millrace' | 'kafkajs'
  readonly bootstrap: string
  readonly topic: string
  readonly records: number
}

/** What a process tells of itself. */
export interface Count {
  readonly records: number
  /** Of values. */
  readonly bytes: number
  readonly ms: number
  readonly cpuUs: number
}

export interface Rate {
  readonly recordsPerSecond: number
  /** µs of user and system time; absent for Java's tools. */
  readonly cpuPerRecord?: number
}

const GIVE_UP_MS = 300_000
const run = promisify(execFile)

/** A process of its own for every contender: no one's garbage or compiled code is another's. */
export async function runNode(script: string, job: ConsumeJob | ProduceJob): Promise<Rate> {
  const args = [join(import.meta.dirname, script), JSON.stringify(job)]
  const { stdout } = await run(process.execPath, args, { timeout: GIVE_UP_MS })
  const count = JSON.parse(stdout.trim().split('\n').at(-1)!) as Count
  const isWhole = count.records === job.records && count.bytes === job.records * RECORD_BYTES
  if (!isWhole) throw new Error(`${job.contender} counted ${count.records} records`)
  return {
    recordsPerSecond: (count.records / count.ms) * 1000,
    cpuPerRecord: count.cpuUs / count.records,
  }
}

/** As Kafka's scripts start it: the tests' own way trades speed for a fast start. */
export async function runJava(className: string, args: readonly string[]): Promise<string> {
  const classPath = await kafkaClassPath(() => {})
  const flags = [...archiveFlags(), '-Xmx512m', '-cp', classPath]
  const { stdout } = await run(javaPath(), [...flags, className, ...args], { timeout: GIVE_UP_MS })
  return stdout
}
