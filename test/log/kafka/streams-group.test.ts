/** Instances of one application in a streams group of a real broker. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import type { Cluster } from '../../../log/kafka/cluster.ts'
import { applySettings, groupSettings } from '../../../log/kafka/streams-group-settings.ts'
import { toolClasses } from '../../support/kafka/kafka.ts'
import { describeOnKafka } from '../../support/kafka/shared.ts'
import {
  activeTasks,
  GroupUnderTest,
  type Instance,
  overriding,
  SESSION_MS,
  standbyTasks,
  topologyOf,
} from './streams-groups.ts'

const allTasks = ['by-customer', 'orders.payments'].flatMap(id =>
  [0, 1, 2, 3].map(partition => `${id}/${partition}`),
)

describeOnKafka('a streams group', kafka => {
  let under: GroupUnderTest
  const begin = async () => {
    under = new GroupUnderTest(kafka.bootstrap)
    await under.createTopics()
    return under
  }
  afterEach(() => under.end())

  test('one instance gets all tasks, and the broker makes the internal topics', async () => {
    const group = await begin()
    const one = await group.join('one')
    await group.settle(8)
    expect(activeTasks(one)).toEqual(allTasks)
    expect(one.states).toEqual(expect.arrayContaining(['waiting', 'stable']))
    const topic = await one.cluster.topic(`${group.group}-by-customer-repartition`)
    expect(topic?.partitions).toHaveLength(4)
  })

  test('a second and a third instance get their share, and no task is held twice', async () => {
    const group = await begin()
    const one = await group.join('one')
    await group.settle(8)
    const two = await group.join('two')
    await group.settle(4, 4)
    const three = await group.join('three')
    await expect
      .poll(() => [one, two, three].map(each => activeTasks(each).length).sort())
      .toEqual([2, 3, 3])
    expect([one, two, three].flatMap(activeTasks).sort()).toEqual(allTasks)
    await group.leave(two)
    await group.settle(4, 4)
    expect([one, three].flatMap(activeTasks).sort()).toEqual(allTasks)
  })

  test('nobody gets a task before its holder has given it up', async () => {
    const group = await begin()
    const one = await group.join('one')
    await group.settle(8)
    const held = one.owned
    one.member.own = () => {}
    const two = await group.join('two')
    await expect.poll(() => one.member.target).not.toEqual(held)
    await sleep(2_000)
    expect(activeTasks(two)).toEqual([])
    Reflect.deleteProperty(one.member, 'own')
    one.member.own(one.member.target!)
    await group.settle(4, 4)
  })

  test('standbys are placed on other processes, and take over', async () => {
    const group = await begin()
    const settings = { sessionTimeoutMs: SESSION_MS, heartbeatIntervalMs: 500, standbyReplicas: 1 }
    const one = await group.join('one', { settings })
    const two = await group.join('two', { settings })
    await group.settle(4, 4)
    await expect.poll(() => standbyTasks(one)).toEqual(activeTasks(two))
    await expect.poll(() => standbyTasks(two)).toEqual(activeTasks(one))
    await group.leave(two)
    await group.settle(8)
    expect(standbyTasks(one)).toEqual([])
  })

  test('everyone is told where each task can be asked for', async () => {
    const group = await begin()
    const one = await group.join('one', { endpoint: { host: 'one.example', port: 8081 } })
    const two = await group.join('two', { endpoint: { host: 'two.example', port: 65_535 } })
    await group.settle(4, 4)
    const wanted = [one, two].map(({ owned }, i) => ({
      host: ['one.example', 'two.example'][i],
      port: [8081, 65_535][i],
      active: owned.active,
      standby: {},
    }))
    await expect.poll(() => one.member.endpoints).toEqual(wanted)
    await expect.poll(() => two.member.endpoints).toEqual(wanted)
  })

  test('tasks of a killed instance move after the session timeout of the group', async () => {
    const group = await begin()
    await group.join('one')
    const two = await group.join('two')
    await group.settle(4, 4)
    await group.kill(two)
    await group.settle(8)
  })

  test('a restart with the same id takes its tasks back, and nothing moves', async () => {
    const group = await begin()
    const one = await group.join('one')
    const two = await group.join('two')
    await group.settle(4, 4)
    const before = [activeTasks(one), activeTasks(two), one.member.epoch]
    await group.kill(two)
    const again = await group.join('two')
    await group.settle(4, 4)
    expect([activeTasks(one), activeTasks(again), one.member.epoch]).toEqual(before)
    const unplaced = ['joining', 'waiting', 'idle', 'unreachable']
    expect(one.states.filter(state => !unplaced.includes(state))).toEqual(['stable'])
  })

  test('a rolling restart of three instances that remain moves no task', async () => {
    const group = await begin()
    const ids = ['one', 'two', 'three']
    const instances: Instance[] = []
    for (const id of ids) instances.push(await group.join(id))
    const counts = () => instances.map(each => activeTasks(each).length).sort()
    await expect.poll(counts).toEqual([2, 3, 3])
    const calm = () => instances.every(({ member }) => member.status.state === 'stable')
    await expect.poll(calm).toBe(true)
    // Each hears of the group's last epoch with a heartbeat of its own.
    const heard = () => new Set(instances.map(({ member }) => member.epoch)).size
    await expect.poll(heard).toBe(1)
    const before = instances.map(activeTasks)
    const epochs = instances.map(({ member }) => member.epoch)
    for (const [i, id] of ids.entries()) {
      await group.leave(instances[i]!, 'remain')
      instances[i] = await group.join(id)
      await expect.poll(() => instances.map(activeTasks)).toEqual(before)
    }
    expect(instances.map(({ member }) => member.epoch)).toEqual(epochs)
  })

  test('a member that the group has removed gives everything up and joins again', async () => {
    const group = await begin()
    const one = await group.join('one')
    await group.settle(8)
    // Somebody leaves in its name, as an operator might.
    const other = await group.join('one-again', { memberId: 'one', cluster: one.cluster })
    await expect.poll(() => other.member.status.state).toBe('stable')
    group.ledger.set('one-again', { active: {}, standby: {}, warmup: {} })
    group.ledger.conflicts.length = 0
    await other.member.leave()
    await expect.poll(() => one.states).toContain('fenced')
    await expect.poll(() => activeTasks(one)).toEqual(allTasks)
    expect(one.member.epoch).toBeGreaterThan(0)
  })

  test('missing topics are named, and their creation ends the wait', async () => {
    under = new GroupUnderTest(kafka.bootstrap)
    await under.createTopics(4, ['orders'])
    const one = await under.join('one')
    await expect.poll(() => one.member.status.error?.code).toBe('GROUP_SOURCES_MISSING')
    expect(one.member.status.detail).toContain(`${under.group}-payments`)
    // The coordinator may hear of a topic after its creation was answered.
    await expect.poll(() => one.member.status.detail).not.toContain(`${under.group}-orders`)
    await under.createTopics(4, ['payments'])
    await under.settle(8)
    expect(one.member.status.error).toBeUndefined()
  })

  test('topics that meet with different partition counts are named with both counts', async () => {
    under = new GroupUnderTest(kafka.bootstrap)
    await under.createTopics(4, ['orders'])
    await under.createTopics(3, ['payments'])
    const one = await under.join('one')
    await expect.poll(() => one.member.status.error?.code).toBe('GROUP_PARTITIONS_DIFFER')
    expect(one.member.status.detail).toMatch(/orders=4.*payments=3|payments=3.*orders=4/)
    expect(one.member.status.state).toBe('waiting')
  })

  test('a request to shut down reaches every member', async () => {
    const group = await begin()
    const one = await group.join('one')
    const two = await group.join('two')
    await group.settle(4, 4)
    two.member.requestShutdown()
    for (const { member } of [one, two]) {
      await expect.poll(() => member.status.shutdownRequested).toBe(true)
    }
  })

  test('an instance with another topology is refused for good', async () => {
    const group = await begin()
    await group.join('one')
    await group.settle(8)
    const two = await group.join('two', { topology: topologyOf(group.group, 'other') })
    await expect.poll(() => two.member.status.state).toBe('failed')
    expect(two.member.status.error?.code).toBe('GROUP_TOPOLOGY_DIFFERS')
    expect(two.member.target).toBeUndefined()
  })

  test("settings out of the broker's bounds are refused, and say which bound", async () => {
    const group = await begin()
    const settings = { sessionTimeoutMs: 10 }
    await expect(group.join('one', { settings })).rejects.toThrow(
      /group.streams.min.session.timeout/,
    )
    const one = await group.join('one')
    expect(await groupSettings(one.cluster, group.group)).toMatchObject({
      sessionTimeoutMs: SESSION_MS,
      heartbeatIntervalMs: 500,
    })
  })

  test('a session that the broker does not tell yet is waited for; in doubt the shorter counts', async () => {
    const group = await begin()
    const { cluster } = await group.join('one')
    const settings = { sessionTimeoutMs: SESSION_MS + 1 }
    const late = lateSettings(cluster, 3)
    expect(await applySettings(late.cluster, group.group, settings)).toMatchObject(settings)
    expect(late.stale).toBe(0)
    let nowMs = 0
    const environment = { ...cluster.environment, clock: () => (nowMs += 2_000) }
    const never = overriding(lateSettings(cluster, 1e9).cluster, { environment })
    expect(await applySettings(never, group.group, settings)).toMatchObject(settings)
  })

  test("Kafka's own tool lists and describes the group, its members and tasks", async () => {
    const group = await begin()
    const one = await group.join('member-one', { endpoint: { host: 'one.example', port: 8081 } })
    await group.settle(8)
    await expect.poll(async () => (await group.describe(one.cluster)).state).toBe('Stable')
    const run = async (...args: string[]) => {
      const server = ['--bootstrap-server', kafka.bootstrap]
      const { code, stdout, stderr } = await kafka.tool(toolClasses.streamsGroups, [
        ...server,
        ...args,
      ])
      expect(code, stderr).toBe(0)
      return stdout
    }
    expect(await run('--list')).toContain(group.group)
    const about = ['--describe', '--group', group.group]
    expect(await run(...about, '--state')).toMatch(/Stable/)
    const members = await run(...about, '--members', '--verbose')
    expect(members).toContain('member-one')
    expect(members).toMatch(/ACTIVE:.* orders\.payments:\[0,1,2,3\]/)
    expect(members).toMatch(/ACTIVE: by-customer:\[0,1,2,3\]/)
  })
})

/** So many descriptions of settings tell the default session, as before it was set. */
function lateSettings(cluster: Cluster, times: number) {
  const late = { cluster, stale: times }
  const callAny = async (...args: readonly unknown[]) => {
    const answer = await Reflect.apply(cluster.callAny, cluster, args)
    const values = Array.isArray(answer) ? answer[0]?.values : undefined
    if (!(values instanceof Map) || late.stale === 0) return answer
    late.stale--
    return [{ ...answer[0], values: new Map([...values, ['streams.session.timeout.ms', '45000']]) }]
  }
  late.cluster = overriding(cluster, { callAny })
  return late
}
