/**
 * A broker whose authorizer lets nobody do what is not granted. The rights of docs/OPERATIONS.md
 * are granted by its own commands: with them the service runs, without any one of them an
 * application says which is missing.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type AclEntry,
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  type Admin,
  Kafka,
  logLevel,
  ResourcePatternTypes,
} from 'kafkajs'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { inputTopics, isInputTopic } from '../../../contracts/topics.ts'
import type { MillraceError } from '../../../log/errors.ts'
import { json, Topology, textKey } from '../../../streams/index.ts'
import { type Application, startApplication } from '../../support/kafka/application.ts'
import { type KafkaUnderTest, startKafka, steady, toolClasses } from '../../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../../support/kafka/shared.ts'
import { eventLines } from '../../support/order-lines.ts'
import { root } from '../../support/processes.ts'
import { ServiceProcess, scratchFolder } from '../../support/service-process.ts'
import { makeBatch } from '../batches.ts'

const sasl = { mechanism: 'PLAIN', username: 'millrace', password: 'of-this-test' } as const
const jaas = [
  'org.apache.kafka.common.security.plain.PlainLoginModule required',
  `user_${sasl.username}="${sasl.password}";`,
].join(' ')

/** What the analytics read. */
const readTopics: readonly string[] = ['orders', 'payments', 'inventory', 'fulfilment', 'stock']

const anyAcl = {
  resourceType: AclResourceTypes.ANY,
  resourcePatternType: ResourcePatternTypes.ANY,
  operation: AclOperationTypes.ANY,
  permissionType: AclPermissionTypes.ANY,
}

/** The arguments of the page's commands, for another broker. */
function documentedCommands(bootstrap: string): string[][] {
  const page = readFileSync(join(root, 'docs/OPERATIONS.md'), 'utf8')
  const commands = page.replaceAll('\\\n', ' ').match(/^kafka-acls\.sh --boot.*$/gm)!
  return commands.map(command =>
    command.replace('kafka-1:9092', bootstrap).trim().split(/\s+/).slice(1),
  )
}

const kindNames: Readonly<Record<number, string>> = {
  [AclResourceTypes.TOPIC]: 'topic',
  [AclResourceTypes.GROUP]: 'group',
  [AclResourceTypes.TRANSACTIONAL_ID]: 'transactional-id',
}
const operationNames: Readonly<Record<number, string>> = {
  [AclOperationTypes.READ]: 'Read',
  [AclOperationTypes.WRITE]: 'Write',
  [AclOperationTypes.CREATE]: 'Create',
  [AclOperationTypes.DELETE]: 'Delete',
  [AclOperationTypes.DESCRIBE_CONFIGS]: 'DescribeConfigs',
  [AclOperationTypes.ALTER_CONFIGS]: 'AlterConfigs',
}

const shown = ({ resourceType, resourceName, operation }: AclEntry) =>
  `${operationNames[operation]} ${kindNames[resourceType]} ${resourceName}`

describe.skipIf(kafkaIsMissing !== undefined)('a broker with an authorizer', () => {
  let kafka: KafkaUnderTest
  let admin: Admin
  const closing: (() => Promise<unknown>)[] = []

  beforeAll(async () => {
    kafka = await startKafka({
      listeners: { SASL: 'SASL_PLAINTEXT' },
      config: {
        ...steady,
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        // Of the listener without credentials: the broker itself and this test.
        'super.users': 'User:ANONYMOUS',
        'sasl.enabled.mechanisms': 'PLAIN',
        'listener.name.sasl.plain.sasl.jaas.config': jaas,
      },
    })
    admin = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING }).admin()
    await admin.connect()
    const run = (args: readonly string[]) => kafka.tool(toolClasses.acls, args)
    const results = await Promise.all(documentedCommands(kafka.bootstrap).map(run))
    for (const { code, stderr } of results) expect(code, stderr).toBe(0)
  }, START_MS_MAX)
  afterAll(async () => {
    await admin?.disconnect()
    await kafka?.destroy()
  })
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function granted(): Promise<AclEntry[]> {
    const { resources } = await admin.describeAcls(anyAcl)
    return resources.flatMap(({ acls, ...resource }) => acls.map(acl => ({ ...resource, ...acl })))
  }

  async function withoutInputs(): Promise<void> {
    const topics = (await admin.listTopics()).filter(topic => isInputTopic(topic))
    if (topics.length > 0) await admin.deleteTopics({ topics })
  }

  /** Its name begins with that of the service, as the rights are for. */
  let applications = 0
  const topologyOf = () => {
    const topology = new Topology(`analytics-${++applications}`)
    const options = { key: textKey(), value: json<number>() }
    const [first, ...others] = readTopics.map(name => topology.stream(name, options))
    const all = first!.merge(...others)
    all.groupBy(String, { name: 'by-value', key: textKey() }).count({ name: 'counts' })
    for (const topic of inputTopics) if (!readTopics.includes(topic)) all.to(topic, options)
    return topology
  }

  async function start(topology: Topology): Promise<Application> {
    const running = await startApplication({
      bootstrap: kafka.address('SASL'),
      topology,
      connection: { sasl },
      member: { memberId: 'member-one', settings: { standbyReplicas: 0 } },
    })
    closing.push(() => running.stop())
    return running
  }

  async function until(
    { engine, errors }: Application,
    isDone: () => boolean | Promise<boolean>,
  ): Promise<void> {
    while (!(await isDone())) {
      if (engine.state === 'failed') throw errors.at(-1)
      await sleep(20)
    }
  }

  /** All that an application does in its life; rejects with what it stopped at. */
  async function live(): Promise<void> {
    await withoutInputs()
    const topology = topologyOf()
    const first = await start(topology)
    await until(first, () => first.engine.state === 'running')
    const inputs = readTopics.map(topic => ({ topic, partition: 0 }))
    const transaction = first.log.begin()
    const record = { key: 'a', value: '1', timestampMs: Date.now() }
    for (const input of inputs) transaction.append(input, makeBatch([record]))
    await transaction.commit()
    await until(first, async () => {
      const committed = await first.log.committed(topology.application, inputs)
      return committed.every(one => one !== null && one.offset > 0)
    })
    // As the task does that has read on in it.
    const topic = `${topology.application}-by-value-repartition`
    await first.log.deleteRecords({ topic, partition: 0 }, 0)
    await first.stop('remains')
    const second = await start(topology)
    await until(second, () => second.engine.state === 'running')
    await second.stop()
  }

  test('the service runs with the rights of the page', async () => {
    const { path, remove } = await scratchFolder()
    closing.push(remove)
    const service = await ServiceProcess.start(path, ['--no-demo'], {
      MILLRACE_BROKERS: kafka.address('SASL'),
      KAFKA_SASL: sasl.mechanism,
      KAFKA_USERNAME: sasl.username,
      KAFKA_PASSWORD: sasl.password,
    })
    closing.push(() => service.kill())
    const endMs = Date.now() + 40_000
    while (!(await fetch(`${service.url}/readyz`)).ok) {
      const isLate = Date.now() > endMs
      if (isLate) throw new Error(await (await fetch(`${service.url}/readyz`)).text())
      await sleep(50)
    }
    const position = await service.post(eventLines(0, 20, Date.now() - 60_000))
    const rows = await service.rows('order-volume', position)
    expect(rows.length).toBeGreaterThan(0)
  })

  test('without any one of them an application says which is missing', async () => {
    await live()
    const rights = await granted()
    expect(rights).toHaveLength(41)
    for (const right of rights) {
      await admin.deleteAcls({ filters: [right] })
      const error = (await live().catch(one => one)) as MillraceError | undefined
      await admin.createAcls({ acl: [right] })
      const { kind, name, operation } = (error?.details ?? {}) as Record<string, string>
      expect([error?.code, kind], shown(right)).toEqual([
        'KAFKA_FORBIDDEN',
        kindNames[right.resourceType],
      ])
      expect(name!.startsWith(right.resourceName), shown(right)).toBe(true)
      // What it implies is asked for first.
      expect([operationNames[right.operation], 'Describe'], shown(right)).toContain(operation)
    }
  }, 900_000)
})
