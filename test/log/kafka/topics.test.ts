/** Topics made, described and removed, also when the answer is lost. */
import { afterEach, expect, test } from 'vitest'
import type { KafkaLog, KafkaLogOptions } from '../../../log/kafka/index.ts'
import { append, codeOf } from '../../conformance/log.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { toolClasses } from '../../support/kafka/tool.ts'
import { type ApiName, KafkaProxy } from '../../support/kafka-proxy.ts'
import { openLog } from './environment.ts'

describeOnKafka('topics on Kafka', kafka => {
  const open: { close(): unknown }[] = []
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })
  const logAt = async (bootstrap: string, options: Partial<KafkaLogOptions> = {}) => {
    const log = await openLog(bootstrap, options)
    open.unshift(log)
    return log
  }
  const behindProxy = async (): Promise<{ proxy: KafkaProxy; log: KafkaLog }> => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    return { proxy, log: await logAt(proxy.bootstrap) }
  }

  test('the settings are those that Kafka has for them', async () => {
    const log = await logAt(kafka.bootstrap)
    const name = ownName('settings')
    await log.createTopic(name, 2, {
      cleanup: 'compact',
      retentionMs: 86_400_000,
      deleteRetentionMs: 7000,
      batchBytesMax: 300_000,
    })
    const { stdout } = await kafka.tool(toolClasses.configs, [
      ...['--bootstrap-server', kafka.bootstrap, '--describe'],
      ...['--entity-type', 'topics', '--entity-name', name],
    ])
    for (const setting of [
      'cleanup.policy=compact',
      'retention.ms=86400000',
      'delete.retention.ms=7000',
      'max.message.bytes=300000',
      'message.timestamp.type=CreateTime',
      'message.timestamp.before.max.ms=9223372036854775807',
      'message.timestamp.after.max.ms=9223372036854775807',
      'retention.bytes=-1',
      'compression.type=producer',
    ]) {
      expect(stdout).toContain(`${setting} `)
    }
  })

  test('a topic of another maker is described by what matters here', async () => {
    const log = await logAt(kafka.bootstrap)
    const name = ownName('foreign')
    await kafka.tool(toolClasses.topics, [
      ...['--bootstrap-server', kafka.bootstrap, '--create', '--topic', name],
      ...['--partitions', '3', '--config', 'cleanup.policy=compact,delete'],
      ...['--config', 'retention.ms=1234'],
    ])
    const config = { cleanup: 'compact', retentionMs: 1234 }
    expect(await log.describeTopic(name)).toMatchObject({ name, partitions: 3, config })
    const names = (await log.listTopics()).map(topic => topic.name)
    expect(names).toContain(name)
    expect(names.filter(one => one.startsWith('__'))).toEqual([])
  })

  const lost: readonly (readonly [ApiName, 'request' | 'reply'])[] = [
    ['createTopics', 'request'],
    ['createTopics', 'reply'],
  ]
  test.each(lost)('a creation whose %s %s is lost is found out about', async (api, on) => {
    const { proxy, log } = await behindProxy()
    const name = ownName('lost')
    const rule = proxy.rule({ api, on, fault: 'cut' })
    expect(await log.createTopic(name, 2)).toMatchObject({ name, partitions: 2 })
    await rule.hit()
    expect(await codeOf(() => log.createTopic(name, 2))).toBe('TOPIC_EXISTS')
  })

  test('a deletion whose answer is lost is found out about', async () => {
    const { proxy, log } = await behindProxy()
    const name = ownName('lost')
    await log.createTopic(name, 1)
    const rule = proxy.rule({ api: 'deleteTopics', on: 'reply', fault: 'cut' })
    await log.deleteTopic(name)
    await rule.hit()
    expect(await log.describeTopic(name)).toBeUndefined()
  })

  test('a broker that lags behind does not make a topic vanish', async () => {
    const { proxy, log } = await behindProxy()
    const name = ownName('lagging')
    await log.createTopic(name, 1)
    await append(log, { topic: name, partition: 0 }, 'a=1')
    const UNKNOWN_TOPIC = 3
    const lagging = proxy.rule({
      api: 'metadata',
      on: 'reply',
      fault: {
        // The topic's error code stands before the length of its name.
        rewrite: body => {
          const at = body.indexOf(name)
          if (at >= 0) body.writeInt16BE(UNKNOWN_TOPIC, at - 3)
          return body
        },
      },
    })
    log.cluster.staleTopic(name)
    expect(await log.cluster.topic(name)).toMatchObject({ name })
    await lagging.hit()
  })

  test('partitions that were added are found', async () => {
    const log = await logAt(kafka.bootstrap)
    const name = ownName('grown')
    await log.createTopic(name, 1)
    await append(log, { topic: name, partition: 0 }, 'a=1')
    await kafka.tool(toolClasses.topics, [
      ...['--bootstrap-server', kafka.bootstrap, '--alter', '--topic', name],
      ...['--partitions', '3'],
    ])
    await expect
      .poll(() => codeOf(() => append(log, { topic: name, partition: 2 }, 'b=2')))
      .toBe('nothing thrown')
    expect(await log.describeTopic(name)).toMatchObject({ partitions: 3 })
    const beyond = { topic: name, partition: 3 }
    expect(await codeOf(() => append(log, beyond, 'c=3'))).toBe('PARTITION_MISSING')
  })
})
