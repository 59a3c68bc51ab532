/** Streams groups of a real broker over a bad network, and while their coordinator is away. */
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Cluster } from '../../../log/kafka/cluster.ts'
import { type KafkaUnderTest, startKafka } from '../../support/kafka/kafka.ts'
import { describeOnKafka, kafkaIsMissing, START_MS_MAX } from '../../support/kafka/shared.ts'
import { type Fault, KafkaProxy } from '../../support/kafka-proxy.ts'
import { randomOf } from '../../support/streams-group/time.ts'
import { environment } from './environment.ts'
import { activeTasks, GroupUnderTest, type Instance, SESSION_MS } from './streams-groups.ts'

/** Only a reply with an assignment names a sub-topology. */
const isAssignment = ({ body }: { body: Buffer }) => body.includes('orders.payments')

describeOnKafka('a streams group over a bad network', kafka => {
  let under: GroupUnderTest
  let proxy: KafkaProxy
  /** What goes on while a rejoin is on its way: the group gives tasks away at once. */
  const forgetConflicts = () => {
    under.ledger.conflicts.length = 0
  }
  const begin = async () => {
    proxy = await KafkaProxy.start(kafka.bootstrap)
    under = new GroupUnderTest(kafka.bootstrap)
    await under.createTopics()
    return under
  }
  const joinThroughProxy = (id: string, heartbeatTimeoutMs = 8_000) =>
    under.join(id, { bootstrap: proxy.bootstrap, heartbeatTimeoutMs })
  afterEach(async () => {
    proxy.clear()
    proxy.thaw()
    await under.end()
    await proxy.close()
  })

  test('an assignment whose reply was lost is had by joining again', async () => {
    const group = await begin()
    const lost = proxy.rule({
      api: 'streamsGroupHeartbeat',
      on: 'reply',
      fault: 'drop',
      when: isAssignment,
    })
    const one = await joinThroughProxy('one')
    await lost.hit()
    await group.settle(8)
    expect(one.states).not.toContain('fenced')
  })

  test('a revocation whose reply was lost still moves tasks, and the rest stays', async () => {
    const group = await begin()
    const one = await joinThroughProxy('one')
    await group.settle(8)
    const lost = proxy.rule({
      api: 'streamsGroupHeartbeat',
      on: 'reply',
      fault: 'cut',
      when: isAssignment,
    })
    await group.join('two')
    await lost.hit()
    await group.settle(4, 4)
    expect(one.states).toContain('unreachable')
    expect(one.states).not.toContain('fenced')
    forgetConflicts()
  })

  test('an acknowledgement that was lost, or came twice, hands the tasks over once', async () => {
    const group = await begin()
    const one = await joinThroughProxy('one')
    await group.settle(8)
    for (const fault of ['drop', 'duplicate'] as const) {
      const rule = proxy.rule({
        api: 'streamsGroupHeartbeat',
        on: 'request',
        fault,
        when: isAssignment,
      })
      const two = await group.join('two')
      await rule.hit()
      await group.settle(4, 4)
      await group.leave(two)
      await group.settle(8)
    }
    expect(one.states).not.toContain('fenced')
    forgetConflicts()
  })

  test('fault 14: heartbeats lost while idle: not alive after the session timeout, then fenced', async () => {
    const group = await begin()
    const one = await joinThroughProxy('one')
    await group.join('two')
    await group.settle(4, 4)
    const silent = { api: 'streamsGroupHeartbeat', on: 'request', fault: 'drop' } as const
    proxy.rule({ ...silent, times: 1_000 })
    await expect.poll(() => one.member.alive, { timeout: SESSION_MS * 3 }).toBe(false)
    await expect.poll(() => one.member.status.state).toBe('unreachable')
    const two = () => group.describe().then(({ members }) => members.map(each => each.memberId))
    await expect.poll(two, { timeout: SESSION_MS * 3 }).toEqual(['two'])
    proxy.clear()
    await group.settle(4, 4)
    expect(one.states).toContain('fenced')
    expect(one.member.alive).toBe(true)
    forgetConflicts()
  })

  test('fault 13: a half-open connection is left, and the member goes on over a new one', async () => {
    const group = await begin()
    const cluster = await Cluster.connect({
      bootstrap: [proxy.bootstrap],
      environment,
      requestTimeoutMs: 8_000,
      heartbeatTimeoutMs: 1_000,
    })
    const settings = { sessionTimeoutMs: 30_000, heartbeatIntervalMs: 500 }
    const one = await group.join('one', { cluster, settings })
    await group.settle(8)
    proxy.freeze()
    const state = () => one.member.status.state
    await expect.poll(state, { timeout: SESSION_MS * 3 }).toBe('unreachable')
    proxy.thaw()
    await group.settle(8)
    expect(one.states).not.toContain('fenced')
    expect(one.member.alive).toBe(true)
  })

  test('through a storm of lost, doubled, late and cut messages everything ends placed', async () => {
    const group = await begin()
    const random = randomOf(7)
    const faults: readonly Fault[] = ['drop', 'cut', 'duplicate', { delayMs: 700 }, 'drop']
    const instances: Instance[] = [await joinThroughProxy('m0')]
    for (let i = 1; i <= 6; i++) {
      for (let n = 0; n < 4; n++) {
        const fault = faults[Math.floor(random() * faults.length)]!
        const on = fault === 'duplicate' || random() < 0.5 ? 'request' : 'reply'
        const from = 1 + Math.floor(random() * 6)
        proxy.rule({ api: 'streamsGroupHeartbeat', on, fault, from })
      }
      if (instances.length > 1 && random() < 0.4) await group.leave(instances.shift()!)
      else instances.push(await joinThroughProxy(`m${i}`))
      await new Promise(resolve => setTimeout(resolve, random() * 1_500))
    }
    proxy.clear()
    const held = () => instances.flatMap(activeTasks).sort()
    await expect.poll(() => held().length, { timeout: 30_000 }).toBe(8)
    await expect.poll(() => new Set(held()).size, { timeout: 30_000 }).toBe(8)
    const states = () => new Set(instances.map(({ member }) => member.status.state))
    await expect.poll(states, { timeout: 30_000 }).toEqual(new Set(['stable']))
    forgetConflicts()
  })
})

describe.skipIf(kafkaIsMissing !== undefined)('the coordinator of a streams group', () => {
  let kafka: KafkaUnderTest
  let under: GroupUnderTest
  beforeAll(async () => {
    kafka = await startKafka({ brokers: 3 })
    return () => kafka.destroy()
  }, START_MS_MAX)
  afterEach(() => under.end())

  test('moves when its broker dies: the members find it, and no task moves', async () => {
    under = new GroupUnderTest(kafka.bootstrap)
    await under.createTopics()
    // The default session timeout: an election must not count as silence.
    const settings = { heartbeatIntervalMs: 500, sessionTimeoutMs: 45_000 }
    const one = await under.join('one', { settings })
    const two = await under.join('two', { settings })
    await under.settle(4, 4)
    const before = [activeTasks(one), activeTasks(two)]
    const node = await one.cluster.coordinator('group', under.group)
    await kafka.kill(node)
    const moved = async () => (await one.cluster.coordinator('group', under.group)) !== node
    await expect.poll(moved, { timeout: 40_000 }).toBe(true)
    const calm = () => [one, two].map(({ member }) => `${member.status.state} ${member.alive}`)
    await expect.poll(calm, { timeout: 40_000 }).toEqual(['stable true', 'stable true'])
    expect([activeTasks(one), activeTasks(two)]).toEqual(before)
    await kafka.restart(node)
    const three = await under.join('three', { settings })
    await expect.poll(() => activeTasks(three).length, { timeout: 30_000 }).toBeGreaterThan(1)
  }, 180_000)
})
