/** Kafka's command-line classes, as `bin/kafka-topics.sh` and its kind run them. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { childEnvironment } from '../processes.ts'
import { archiveFlags } from './class-archive.ts'
import { javaPath, kafkaClassPath, type Print } from './jars.ts'

export interface ToolResult {
  /** Exit code; 124 after a time-out, 128 after a signal. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface ToolOptions {
  /** Standard input; without it there is none. */
  readonly input?: string
  /** The tool is killed after so long: consoles that wait for more end so. Default 60 s. */
  readonly timeoutMs?: number
}

/** The classes behind the scripts that the tests use most. */
export const toolClasses = {
  acls: 'org.apache.kafka.tools.AclCommand',
  configs: 'kafka.admin.ConfigCommand',
  consoleConsumer: 'org.apache.kafka.tools.consumer.ConsoleConsumer',
  consoleProducer: 'org.apache.kafka.tools.ConsoleProducer',
  consumerGroups: 'org.apache.kafka.tools.consumer.group.ConsumerGroupCommand',
  features: 'org.apache.kafka.tools.FeatureCommand',
  groups: 'org.apache.kafka.tools.GroupsCommand',
  offsets: 'org.apache.kafka.tools.GetOffsetShell',
  producerPerformance: 'org.apache.kafka.tools.ProducerPerformance',
  streamsGroups: 'org.apache.kafka.tools.streams.StreamsGroupCommand',
  topics: 'org.apache.kafka.tools.TopicCommand',
  transactions: 'org.apache.kafka.tools.TransactionsCommand',
} as const

/** The Java arguments that run one of Kafka's classes. */
export async function toolArguments(className: string, print: Print): Promise<readonly string[]> {
  const classPath = await kafkaClassPath(print)
  return [
    ...archiveFlags(),
    '-XX:TieredStopAtLevel=1',
    '-XX:+UseSerialGC',
    '-Xmx256m',
    `-Dlog4j2.configurationFile=${join(import.meta.dirname, 'tool-log4j2.properties')}`,
    '-cp',
    classPath,
    className,
  ]
}

/** Runs one of Kafka's classes to its end. */
export async function runKafkaTool(
  className: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<ToolResult> {
  const flags = await toolArguments(className, () => {})
  const child = spawn(javaPath(), [...flags, ...args], {
    env: childEnvironment,
    stdio: 'pipe',
  })
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    child.kill('SIGKILL')
  }, options.timeoutMs ?? 60_000)
  const text = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8')
    child[name].on('data', (chunk: string) => {
      text[name] += chunk
    })
  }
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', code => {
      clearTimeout(timer)
      resolve({ code: timedOut ? 124 : (code ?? 128), ...text })
    })
  })
}
