/** What a group has committed, as its next owner must see it. */
import { afterEach, expect, test } from 'vitest'
import { joinStreamsGroup, type KafkaLog } from '../../../log/kafka/index.ts'
import type { GroupMember, TopicPartition } from '../../../log/port.ts'
import { append, codeOf } from '../../conformance/log.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { KafkaProxy, type ProxyRule } from '../../support/kafka-proxy.ts'
import { environment, openLog } from './environment.ts'

const reader = {
  id: '0',
  changelogs: [],
  repartitionSinks: [],
  repartitionSources: [],
  copartitionGroups: [],
}

describeOnKafka('committed offsets on Kafka', kafka => {
  const open: { close(): unknown }[] = []
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })

  const logAt = async (bootstrap: string, haste = () => 1): Promise<KafkaLog> => {
    const clock = () => performance.now() * haste()
    const log = await openLog(bootstrap, { environment: { ...environment, clock } })
    open.unshift(log)
    return log
  }

  const newPlace = async (log: KafkaLog): Promise<TopicPartition> => {
    const place = { topic: ownName('groups'), partition: 0 }
    await log.createTopic(place.topic, 1)
    return place
  }

  const commit = (log: KafkaLog, group: string, place: TopicPartition, offset: number) =>
    log.begin().commit({ group, offsets: [{ ...place, offset, metadata: `at ${offset}` }] })

  test('offsets under a pending commit are waited for, never read from below it', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    const log = await logAt(kafka.bootstrap)
    const place = await newPlace(log)
    const group = ownName('group')
    await commit(log, group, place, 5)
    const slow = await logAt(proxy.bootstrap)
    const rule: ProxyRule = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold' })
    const pending = commit(slow, group, place, 9)
    await rule.hit()
    let answered = false
    const reading = log.committed(group, [place]).then(offsets => {
      answered = true
      return offsets
    })
    await append(log, place, 'a=1')
    expect(answered).toBe(false)
    rule.release()
    await pending
    expect(await reading).toEqual([{ ...place, offset: 9, metadata: 'at 9' }])
  })

  test('a coordinator that says "none" after a commit is not believed (KAFKA-20416)', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    const log = await logAt(proxy.bootstrap)
    const place = await newPlace(log)
    const group = ownName('group')
    await commit(log, group, place, 7)
    const forgetful = proxy.rule({
      api: 'offsetFetch',
      on: 'reply',
      times: 3,
      fault: { rewrite: body => replaceInt64(body, 7n, -1n) },
    })
    expect(await log.committed(group, [place])).toEqual([{ ...place, offset: 7, metadata: 'at 7' }])
    await forgetful.hit(3)
  })

  test('offsets that are gone for good stop the reader with their place', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    let haste = 1
    const log = await logAt(proxy.bootstrap, () => haste)
    const place = await newPlace(log)
    const group = ownName('group')
    await commit(log, group, place, 7)
    haste = 20
    proxy.rule({
      api: 'offsetFetch',
      on: 'reply',
      times: 1000,
      fault: { rewrite: body => replaceInt64(body, 7n, -1n) },
    })
    expect(await codeOf(() => log.committed(group, [place]))).toBe('KAFKA_OFFSETS_LOST')
  })

  test('a coordinator that is loading is asked again', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    const log = await logAt(proxy.bootstrap)
    const place = await newPlace(log)
    const group = ownName('group')
    await commit(log, group, place, 7)
    const LOADING = 14
    const loading = proxy.rule({
      api: 'offsetFetch',
      on: 'reply',
      times: 2,
      // The group's code is the last field before two tagged sections.
      fault: {
        rewrite: body => {
          body.writeInt16BE(LOADING, body.length - 4)
          return body
        },
      },
    })
    expect(await log.committed(group, [place])).toEqual([{ ...place, offset: 7, metadata: 'at 7' }])
    await loading.hit(2)
  })

  test('only a current member of a live group reads and commits, each with its epoch', async () => {
    const log = await logAt(kafka.bootstrap)
    const place = await newPlace(log)
    const group = ownName('group')
    const offsets = (offset: number) => [{ ...place, offset, metadata: '' }]
    await commit(log, group, place, 7)
    const membership = await joinStreamsGroup({
      cluster: log.cluster,
      group,
      memberId: 'm',
      processId: 'm',
      topology: { subTopologies: [{ ...reader, sourceTopics: [place.topic] }] },
    })
    open.unshift({ close: () => membership.leave() })
    await expect.poll(() => membership.target?.active, { timeout: 20_000 }).toEqual({ '0': [0] })
    const member = { id: 'm', epoch: membership.epoch }
    expect(await log.committed(group, [place], member)).toMatchObject([{ offset: 7 }])
    const stale = { ...member, epoch: member.epoch + 1 }
    expect(await codeOf(() => log.committed(group, [place], stale))).toBe('KAFKA_MEMBER_STALE')
    const as = (who: GroupMember) =>
      codeOf(() => log.begin().commit({ group, member: who, offsets: offsets(8) }))
    expect(await as(stale)).toBe('KAFKA_MEMBER_FENCED')
    expect(await as({ id: 'nobody', epoch: member.epoch })).toBe('KAFKA_MEMBER_FENCED')
    expect(await codeOf(() => commit(log, group, place, 9))).toBe('GROUP_INVALID')
    expect(await log.committed(group, [place])).toMatchObject([{ offset: 7 }])
    expect(await as(member)).toBe('nothing thrown')
    expect(await log.committed(group, [place], member)).toMatchObject([{ offset: 8 }])
  })

  test('groups of every kind are listed while they have members or offsets', async () => {
    const log = await logAt(kafka.bootstrap)
    const place = await newPlace(log)
    const [first, second] = [ownName('a'), ownName('b')]
    await commit(log, second, place, 1)
    await commit(log, first, place, 1)
    // Not before the markers of the commits are written.
    const listed = async () =>
      (await log.listGroups()).filter(name => [first, second].includes(name))
    await expect.poll(listed).toEqual([first, second])
    await log.deleteTopic(place.topic)
    await expect.poll(async () => (await log.listGroups()).includes(first)).toBe(false)
  })
})

/** Replaces the one place where a number stands. */
function replaceInt64(body: Buffer, from: bigint, to: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(from)
  const at = body.indexOf(bytes)
  if (at >= 0) body.writeBigInt64BE(to, at)
  return body
}
