/** A changed topology takes over the group: on a real broker, killed at every step. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { Cluster } from '../../../log/kafka/cluster.ts'
import { deleteGroup } from '../../../log/kafka/group-apis.ts'
import { offsetsOfGroup, putOffsets, removeGroup } from '../../../log/kafka/group-offsets.ts'
import type { StreamsGroupOptions } from '../../../log/kafka/streams-group.ts'
import { migrationName, prepareGroup } from '../../../log/kafka/streams-group-migration.ts'
import type { GroupTopology } from '../../../log/membership.ts'
import type { CommitRequest } from '../../../log/port.ts'
import { describeOnKafka } from '../../support/kafka/shared.ts'
import { KafkaProxy } from '../../support/kafka-proxy.ts'
import { environment, openLog } from './environment.ts'
import { GroupUnderTest, overriding, SESSION_MS, topologyOf } from './streams-groups.ts'

const SPEED = 50
/** Waiting for locks of the dead takes a fiftieth of the time. */
const hurried = {
  clock: () => performance.now() * SPEED,
  schedule: (task: () => void, delayMs: number) => environment.schedule(task, delayMs / SPEED),
  randomBytes,
}

describeOnKafka('a changed topology', kafka => {
  let under: GroupUnderTest
  const clusters: Cluster[] = []
  const connect = async (hurry = true) => {
    const cluster = await Cluster.connect({
      bootstrap: [kafka.bootstrap],
      environment: hurry ? hurried : environment,
      requestTimeoutMs: hurry ? 15_000 * SPEED : 15_000,
    })
    clusters.push(cluster)
    return cluster
  }
  afterEach(async () => {
    await under.end()
    for (const cluster of clusters.splice(0)) await cluster.close()
  })

  const commitNow = async (commit: CommitRequest & { readonly group: string }) => {
    const log = await openLog(kafka.bootstrap, { transactionalId: commit.group })
    await log.begin().commit(commit)
    await log.close()
  }
  /** A group of the first topology with offsets and metadata, its only member gone. */
  const begin = async (leave: 'give-up' | 'remain' = 'give-up', commit = commitNow) => {
    under = new GroupUnderTest(kafka.bootstrap)
    await under.createTopics()
    const { group } = under
    const one = await under.join('one')
    await under.settle(8)
    const offsets = [0, 1, 2, 3].map(partition => ({
      topic: `${group}-orders`,
      partition,
      offset: 10 + partition,
      metadata: `time of ${partition}`,
    }))
    await commit({ group, offsets, member: { id: 'one', epoch: one.member.epoch } })
    await under.leave(one, leave)
    return offsets
  }
  const committed = async () => {
    const offsets = await offsetsOfGroup(await connect(), under.group)
    return offsets
      .map(({ topic, partition, offset, metadata }) => ({ topic, partition, offset, metadata }))
      .sort((a, b) => a.partition - b.partition)
  }
  const optionsFor = (
    cluster: Cluster,
    memberId: string,
    topology: GroupTopology = topologyOf(under.group, 'changed'),
  ): StreamsGroupOptions => {
    return { cluster, group: under.group, memberId, processId: memberId, topology }
  }

  test('is taken by a group without members, which keeps its offsets', async () => {
    const offsets = await begin()
    const cluster = await connect()
    const { group } = under
    const prepared = await prepareGroup(optionsFor(cluster, 'one'))
    expect(prepared).toEqual({
      outcome: 'migrated',
      changes: [`new changelog ${group}-changed-changelog`, `no changelog ${group}-c2-changelog`],
    })
    const one = await under.join('one', { topology: topologyOf(group, 'changed') })
    await under.settle(8)
    expect(one.member.status.state).toBe('stable')
    expect(await committed()).toEqual(offsets)
    expect(await offsetsOfGroup(cluster, migrationName(group))).toEqual([])
    expect(await cluster.topic(migrationName(group))).toBeUndefined()
    const again = await prepareGroup(optionsFor(cluster, 'one'))
    expect(again).toEqual({ outcome: 'unchanged', changes: [] })
    expect(await committed()).toEqual(offsets)
  })

  test('names the members that still run the old one, and what changed', async () => {
    await begin()
    await under.join('old', { endpoint: { host: 'old.example', port: 8080 } })
    await under.settle(8)
    const failure = await prepareGroup(optionsFor(await connect(), 'new')).catch(error => error)
    expect(failure.code).toBe('GROUP_HAS_MEMBERS')
    expect(failure.message).toContain('old at old.example:8080')
    expect(failure.message).toContain(`new changelog ${under.group}-changed-changelog`)
    expect(failure.message).toContain(`${SESSION_MS} ms`)
    await under.settle(8)
  })

  test('is not held up by the killed member whose place the restart takes', async () => {
    const offsets = await begin('remain')
    expect((await under.describe()).members).toHaveLength(1)
    const prepared = await prepareGroup(optionsFor(await connect(), 'one'))
    expect(prepared.outcome).toBe('migrated')
    expect(await committed()).toEqual(offsets)
  })

  test('that no description shows is found by a join, and taken as well', async () => {
    const offsets = await begin()
    const { group } = under
    const topology = topologyOf(group)
    const [first, second] = topology.subTopologies
    const hidden = { subTopologies: [{ ...first!, copartitionGroups: [] }, second!] }
    const prepared = await prepareGroup(optionsFor(await connect(), 'one', hidden))
    expect(prepared).toEqual({
      outcome: 'migrated',
      changes: ['copartition groups, or partition counts of repartition topics'],
    })
    await under.join('one', { topology: hidden })
    await under.settle(8)
    expect(await committed()).toEqual(offsets)
  })

  test('with an equal one nothing happens, members or not', async () => {
    const offsets = await begin()
    const same = { outcome: 'unchanged', changes: [] }
    const topology = topologyOf(under.group)
    const cluster = await connect()
    expect(await prepareGroup(optionsFor(cluster, 'one', topology))).toEqual(same)
    const one = await under.join('one')
    await under.settle(8)
    const { epoch } = one.member
    expect(await prepareGroup(optionsFor(cluster, 'two', topology))).toEqual(same)
    expect(one.member.epoch).toBe(epoch)
    expect(await committed()).toEqual(offsets)
  })

  test('of a new application: there is nothing to take over', async () => {
    under = new GroupUnderTest(kafka.bootstrap)
    const prepared = await prepareGroup(optionsFor(await connect(), 'one'))
    expect(prepared).toEqual({ outcome: 'new', changes: [] })
  })

  test('is deployed by three instances that start at once', async () => {
    const offsets = await begin()
    const topology = topologyOf(under.group, 'changed')
    const starts = ['one', 'two', 'three'].map(async id => {
      const { outcome } = await prepareGroup(optionsFor(await connect(false), id))
      await under.join(id, { topology })
      return outcome
    })
    expect(await Promise.all(starts)).toContain('migrated')
    await expect
      .poll(async () => (await under.describe()).members.length, { timeout: 60_000 })
      .toBe(3)
    expect(await committed()).toEqual(offsets)
  })

  test('waits for a first commit that is not through: who asks for all offsets is not told', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    let finish = async () => {}
    const offsets = await begin('give-up', async commit => {
      const log = await openLog(proxy.bootstrap, { transactionalId: commit.group })
      const held = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold' })
      const done = log.begin().commit(commit)
      await held.hit()
      finish = async () => {
        held.release()
        await done
        await log.close()
        await proxy.close()
      }
    })
    let isOver = false
    const prepared = prepareGroup(optionsFor(await connect(false), 'one')).finally(() => {
      isOver = true
    })
    await sleep(500)
    expect(isOver).toBe(false)
    await finish()
    expect((await prepared).outcome).toBe('migrated')
    expect(await committed()).toEqual(offsets)
  })

  test('is never done by two at once: one that stalls is waited for', async () => {
    const offsets = await begin()
    const topology = topologyOf(under.group, 'changed')
    const stall = stalling(await connect(false), under.group)
    const slow = prepareGroup(optionsFor(stall.cluster, 'slow'))
    await stall.reached
    let isFast = false
    const fast = prepareGroup(optionsFor(await connect(false), 'fast')).then(() => {
      isFast = true
    })
    await Promise.race([fast, sleep(1_500)])
    stall.release()
    await stall.passed
    // Without a lock it would have finished, and would lose the offsets by joining now.
    if (isFast) await under.join('early', { topology })
    stall.finish()
    await Promise.all([slow, fast])
    await under.join('late', { topology })
    await under.settle(8)
    expect(await committed()).toEqual(offsets)
  })

  test('hides no offset from others that start, at any moment of it', async () => {
    const offsets = await begin()
    const { group } = under
    const cluster = await connect()
    const log = await openLog(kafka.bootstrap)
    const seen: unknown[] = []
    const call = async (...args: readonly unknown[]) => {
      const found = await log.committed(group, offsets)
      seen.push(found.map(one => one?.offset))
      return Reflect.apply(cluster.call, cluster, args)
    }
    await prepareGroup(optionsFor(overriding(cluster, { call }), 'one'))
    await log.close()
    expect(seen.length).toBeGreaterThan(8)
    for (const found of seen) expect(found).toEqual(offsets.map(({ offset }) => offset))
  })

  test('survives a kill at every request of it', async () => {
    for (let requests = 1; ; requests++) {
      const offsets = await begin()
      const isDone = await prepareGroup(optionsFor(dying(await connect(), requests), 'one')).then(
        () => true,
        () => false,
      )
      const cluster = await connect()
      await prepareGroup(optionsFor(cluster, 'one'))
      await under.join('one', { topology: topologyOf(under.group, 'changed') })
      await under.settle(8)
      expect(await committed(), `killed at request ${requests}`).toEqual(offsets)
      expect(await offsetsOfGroup(cluster, migrationName(under.group))).toEqual([])
      await under.end()
      if (isDone) break
    }
  }, 240_000)

  test('that was killed half-way leaves offsets alone that were reset meanwhile', async () => {
    const offsets = await begin()
    const cluster = await connect()
    const { group } = under
    await putOffsets(cluster, migrationName(group), await offsetsOfGroup(cluster, group))
    await removeGroup(cluster, group)
    const reset = { ...offsets[0]!, offset: 0, metadata: '' }
    await putOffsets(cluster, group, [{ ...reset, leaderEpoch: -1 }])
    const prepared = await prepareGroup(optionsFor(cluster, 'one'))
    expect(prepared.outcome).toBe('migrated')
    expect(await committed()).toEqual([reset, ...offsets.slice(1)])
  })
})

/** Stalls before it deletes the group, and once more after that. */
function stalling(cluster: Cluster, group: string) {
  const reached = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const passed = Promise.withResolvers<void>()
  const finished = Promise.withResolvers<void>()
  const call = async (...args: readonly unknown[]) => {
    const isDeletion = args[2] === deleteGroup && args[3] === group
    if (isDeletion) {
      reached.resolve()
      await released.promise
    }
    const answer = await Reflect.apply(cluster.call, cluster, args)
    if (isDeletion) {
      passed.resolve()
      await finished.promise
    }
    return answer
  }
  return {
    cluster: overriding(cluster, { call }),
    reached: reached.promise,
    passed: passed.promise,
    release: () => released.resolve(),
    finish: () => finished.resolve(),
  }
}

/** A process that is killed after so many requests: the last one arrives, its answer does not. */
function dying(cluster: Cluster, requests: number): Cluster {
  let left = requests
  const send = async (name: 'call' | 'callAny', args: readonly unknown[]) => {
    if (left <= 0) throw new Error('killed')
    left--
    const answer = await Reflect.apply(cluster[name], cluster, args)
    if (left <= 0) throw new Error('killed')
    return answer
  }
  return overriding(cluster, {
    call: (...args: readonly unknown[]) => send('call', args),
    callAny: (...args: readonly unknown[]) => send('callAny', args),
  })
}
