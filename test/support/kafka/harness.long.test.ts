/** The brokers that other tests rely on: they answer, die, come back with their data, and end. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Kafka, logLevel } from 'kafkajs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { childEnvironment, root } from '../processes.ts'
import { type KafkaOptions, type KafkaUnderTest, startKafka, toolClasses } from './kafka.ts'
import {
  describeOnKafka,
  kafkaIsMissing,
  ownName,
  type SharedKafka,
  START_MS_MAX,
  sharedKafka,
  sharedRegistry,
} from './shared.ts'

async function startOwn(options: KafkaOptions): Promise<KafkaUnderTest> {
  const kafka = await startKafka(options)
  onTestFinished(() => kafka.destroy(), 60_000)
  return kafka
}

/** Runs a tool that must succeed. */
async function run(kafka: SharedKafka, className: string, ...args: readonly string[]) {
  const { code, stdout, stderr } = await kafka.tool(className, [
    '--bootstrap-server',
    kafka.bootstrap,
    ...args,
  ])
  expect(stderr + stdout, className).not.toContain('Error')
  expect(code, stderr).toBe(0)
  return stdout
}

async function produce(kafka: SharedKafka, topic: string, input: string): Promise<void> {
  const args = ['--bootstrap-server', kafka.bootstrap, '--topic', topic]
  const { code, stderr } = await kafka.tool(toolClasses.consoleProducer, args, { input })
  expect(code, stderr).toBe(0)
}

async function consume(kafka: SharedKafka, topic: string, records: number): Promise<string> {
  const flags = ['--from-beginning', '--max-messages', `${records}`, '--timeout-ms', '30000']
  return run(kafka, toolClasses.consoleConsumer, '--topic', topic, ...flags)
}

async function topicsSeenBy(broker: string, password: string): Promise<readonly string[]> {
  const client = new Kafka({
    brokers: [broker],
    logLevel: logLevel.NOTHING,
    retry: { retries: 1 },
    sasl: { mechanism: 'scram-sha-256', username: 'alice', password },
  })
  const admin = client.admin()
  await admin.connect()
  const topics = await admin.listTopics()
  await admin.disconnect()
  return topics
}

function isAlive(pid: number): boolean {
  // A dead process that nobody waited for still has its entry, as a zombie.
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', `${pid}`], { encoding: 'utf8' })
  return stdout.trim() !== '' && !stdout.startsWith('Z')
}

/** The last argument of the broker's command: its `server.properties`. */
function settingsOf(pid: number): string {
  const { stdout } = spawnSync('ps', ['-ww', '-o', 'args=', '-p', `${pid}`], { encoding: 'utf8' })
  return stdout.trim().split(' ').at(-1)!
}

describeOnKafka('the shared broker', kafka => {
  test('is one for all who ask', async () => {
    expect((await sharedKafka()).bootstrap).toBe(kafka.bootstrap)
    expect(kafka.bootstrap).toMatch(/^127\.0\.0\.1:\d+$/)
  })

  test('keeps records, and Kafka’s own tools read them', async () => {
    const topic = ownName('harness')
    await run(kafka, toolClasses.topics, '--create', '--topic', topic, '--partitions', '3')
    await produce(kafka, topic, 'one\ntwo\n')
    expect((await consume(kafka, topic, 2)).trim().split('\n').sort()).toEqual(['one', 'two'])
  })

  test('has the features that Millrace asks for', async () => {
    const features = await run(kafka, toolClasses.features, 'describe')
    expect(features).toMatch(/transaction\.version\s.*FinalizedVersionLevel: 2/)
    expect(features).toMatch(/streams\.version\s.*FinalizedVersionLevel: 1/)
  })

  test('a tool that does not end is stopped', async () => {
    const topic = ownName('harness-empty')
    await run(kafka, toolClasses.topics, '--create', '--topic', topic)
    const args = ['--bootstrap-server', kafka.bootstrap, '--topic', topic]
    const { code } = await kafka.tool(toolClasses.consoleConsumer, args, { timeoutMs: 3000 })
    expect(code).toBe(124)
  })
})

describe.skipIf(kafkaIsMissing !== undefined)('a broker of the test’s own', () => {
  const START = { timeout: START_MS_MAX }

  test('is killed and restarted with its data', START, async () => {
    const kafka = await startOwn({})
    await run(kafka, toolClasses.topics, '--create', '--topic', 'kept')
    await produce(kafka, 'kept', 'before\n')
    await kafka.kill()
    expect(kafka.nodes.map(node => node.running)).toEqual([false])
    await kafka.restart()
    expect(await consume(kafka, 'kept', 1)).toBe('before\n')
  })

  test('is silent while paused', START, async () => {
    const kafka = await startOwn({})
    const list = ['--bootstrap-server', kafka.bootstrap, '--list']
    kafka.pause()
    const { code } = await kafka.tool(toolClasses.topics, list, { timeoutMs: 4000 })
    expect(code).toBe(124)
    kafka.resume()
    expect((await run(kafka, toolClasses.topics, '--list')).trim()).toBe('')
  })

  test('takes settings, features, listeners and credentials', START, async () => {
    const login = 'org.apache.kafka.common.security.scram.ScramLoginModule required;'
    const kafka = await startOwn({
      config: {
        'num.partitions': 7,
        'sasl.enabled.mechanisms': 'SCRAM-SHA-256',
        'listener.name.sasl.scram-sha-256.sasl.jaas.config': login,
      },
      features: { 'streams.version': 0 },
      listeners: { SASL: 'SASL_PLAINTEXT' },
      scram: ['SCRAM-SHA-256=[name=alice,password=secret]'],
    })
    await run(kafka, toolClasses.topics, '--create', '--topic', 'seven')
    const described = await run(kafka, toolClasses.topics, '--describe', '--topic', 'seven')
    expect(described).toContain('PartitionCount: 7')
    const features = await run(kafka, toolClasses.features, 'describe')
    expect(features).toMatch(/streams\.version\s.*FinalizedVersionLevel: 0/)
    expect(await topicsSeenBy(kafka.address('SASL'), 'secret')).toContain('seven')
    await expect(topicsSeenBy(kafka.address('SASL'), 'wrong')).rejects.toThrow(/auth/i)
  })

  test('three of them go on when one is killed', START, async () => {
    const kafka = await startOwn({ brokers: 3 })
    const topic = ['--topic', 'replicated']
    await run(kafka, toolClasses.topics, '--create', ...topic, '--partitions', '3')
    await produce(kafka, 'replicated', 'a\nb\n')
    await kafka.kill(2)
    await produce(kafka, 'replicated', 'c\n')
    expect((await consume(kafka, 'replicated', 3)).split('\n').sort().join('')).toBe('abc')
    await kafka.restart(2)
    const offsets = await run(kafka, toolClasses.topics, '--describe')
    expect(offsets).toMatch(/__consumer_offsets\s.*ReplicationFactor: 3/)
  })

  test('dies with the process that started it', START, async () => {
    const script = `
      const { startKafka } = await import(${JSON.stringify(join(import.meta.dirname, 'kafka.ts'))})
      const { nodes } = await startKafka()
      process.stdout.write(nodes[0].pid + '\\n')`
    const parent = spawn('node', ['--input-type=module', '-e', script], {
      cwd: root,
      env: childEnvironment,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [chunk] = await once(parent.stdout, 'data')
    const pid = Number(String(chunk))
    const folder = dirname(dirname(settingsOf(pid)))
    expect([isAlive(pid), existsSync(folder)]).toEqual([true, true])
    parent.kill('SIGKILL')
    await expect.poll(() => isAlive(pid), { timeout: 20_000 }).toBe(false)
    await expect.poll(() => existsSync(folder), { timeout: 20_000 }).toBe(false)
  })
})

describe.skipIf(kafkaIsMissing !== undefined)('the shared registry', () => {
  test('keeps a schema under its subject', { timeout: START_MS_MAX }, async () => {
    const subject = `${await sharedRegistry()}/subjects/${ownName('orders')}/versions`
    const headers = { 'content-type': 'application/vnd.schemaregistry.v1+json' }
    const body = JSON.stringify({ schema: '"string"' })
    const { id } = (await (await fetch(subject, { method: 'POST', headers, body })).json()) as {
      id: number
    }
    const latest = await (await fetch(`${subject}/latest`)).json()
    expect(latest).toMatchObject({ id, version: 1, schema: '"string"' })
  })
})
