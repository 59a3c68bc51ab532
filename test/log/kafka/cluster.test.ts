/** Finding the way in a cluster, and refusing one that will not do. */
import { createServer, type Server } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { Cluster, type ClusterOptions } from '../../../log/kafka/cluster.ts'
import { codeOf } from '../../conformance/log.ts'
import { startKafka } from '../../support/kafka/kafka.ts'
import {
  describeOnKafka,
  kafkaIsMissing,
  ownName,
  START_MS_MAX,
} from '../../support/kafka/shared.ts'
import { KafkaProxy } from '../../support/kafka-proxy.ts'
import { freePort } from '../../support/ports.ts'
import { environment, openLog } from './environment.ts'

const connect = (bootstrap: readonly string[], options: Partial<ClusterOptions> = {}) =>
  Cluster.connect({ bootstrap, environment, ...options })

describeOnKafka('a cluster', kafka => {
  const open: { close(): unknown }[] = []
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })
  const cluster = async (bootstrap: string, options: Partial<ClusterOptions> = {}) => {
    const found = await connect([bootstrap], options)
    open.unshift(found)
    return found
  }

  test('the first bootstrap broker that answers will do', async () => {
    const closed = `127.0.0.1:${await freePort()}`
    const found = await connect([closed, kafka.bootstrap])
    open.push(found)
    expect(found.clusterId).not.toBe('')
    expect(found.feature('transaction.version')).toBeGreaterThanOrEqual(2)
    expect(found.supports(88, 0)).toBe(true)
    expect(found.supports(88, 99)).toBe(false)
    expect(found.nodes).toContain(await found.controller())
  })

  test('no broker at all is told with its address', async () => {
    const port = await freePort()
    const failure = await connect([`127.0.0.1:${port}`]).catch(error => error)
    expect(failure).toMatchObject({ code: 'KAFKA_UNREACHABLE', details: { sent: false } })
    expect(failure.message).toContain(`127.0.0.1:${port}`)
  })

  test('what is no Kafka is not waited for', async () => {
    const server: Server = createServer(socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    open.push(server)
    const { port } = server.address() as { port: number }
    const options = { requestTimeoutMs: 1000 }
    const code = await codeOf(() => connect([`127.0.0.1:${port}`], options))
    expect(code).toMatch(/^KAFKA_(UNREACHABLE|RESPONSE)$/)
  })

  test('a broker that does not answer is given up after the request timeout', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    const found = await cluster(proxy.bootstrap, { requestTimeoutMs: 8000 })
    const lost = proxy.rule({ api: 'metadata', on: 'reply', fault: 'drop' })
    // Another try is made on a connection of its own.
    expect(await found.topic(ownName('absent'))).toBeUndefined()
    await lost.hit()
  })

  test('a topic is remembered until it is stale, and told apart from one of the same name', async () => {
    const log = await openLog(kafka.bootstrap)
    open.push(log)
    const name = ownName('topic')
    const found = await cluster(kafka.bootstrap)
    expect(await found.topic(name)).toBeUndefined()
    const { id } = await log.createTopic(name, 3)
    const topic = await found.topic(name)
    expect(topic).toMatchObject({ name, id, internal: false })
    expect(topic?.partitions.map(({ partition }) => partition)).toEqual([0, 1, 2])
    expect(found.topicById(id)).toBe(topic)
    await log.deleteTopic(name)
    expect(await found.topic(name)).toBe(topic)
    found.staleTopic(name)
    expect(await found.topic(name)).toBeUndefined()
    expect(found.topicById(id)).toBeUndefined()
    const again = await log.createTopic(name, 1)
    expect(await found.topic(name)).toMatchObject({ id: again.id })
    expect(again.id).not.toBe(id)
  })

  test('questions for topics of one turn are one request', async () => {
    const log = await openLog(kafka.bootstrap)
    open.push(log)
    const names = Array.from({ length: 5 }, () => ownName('topic'))
    for (const name of names) await log.createTopic(name, 1)
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    const found = await cluster(proxy.bootstrap)
    const before = proxy.requests('metadata')
    const topics = await Promise.all(names.map(name => found.topic(name)))
    expect(topics.map(topic => topic?.name)).toEqual(names)
    expect(proxy.requests('metadata') - before).toBe(1)
  })

  test('a coordinator is remembered, and asked for anew once it is lost', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    const found = await cluster(proxy.bootstrap)
    // The first group of all may have to wait for the topic of the coordinators.
    await found.coordinator('group', ownName('first'))
    const group = ownName('group')
    const asked = async () => {
      const before = proxy.requests('findCoordinator')
      await found.coordinator('group', group)
      return proxy.requests('findCoordinator') - before
    }
    expect([await asked(), await asked()]).toEqual([1, 0])
    found.staleCoordinator('group', group)
    expect(await asked()).toBe(1)
  })
})

describe.skipIf(kafkaIsMissing !== undefined)('an older cluster', () => {
  test(
    'is refused with the name of what it lacks, and what to do',
    async () => {
      const features = { 'transaction.version': 1, 'streams.version': 0 }
      const kafka = await startKafka({ features })
      try {
        const failure = await connect([kafka.bootstrap]).catch(error => error)
        expect(failure.code).toBe('KAFKA_UNSUPPORTED')
        expect(failure.message).toContain('transaction.version 2 (it is 1)')
        expect(failure.message).toContain('streams.version 1 (it is 0)')
        expect(failure.message).toContain('kafka-features.sh upgrade')
      } finally {
        await kafka.destroy()
      }
    },
    START_MS_MAX,
  )
})
