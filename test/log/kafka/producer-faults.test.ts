/** The transactional producer over a bad network: one request or reply at a time goes wrong. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Cluster } from '../../../log/kafka/cluster.ts'
import type { TransactionalProducer } from '../../../log/kafka/producer.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { KafkaProxy } from '../../support/kafka-proxy.ts'
import { appendOf, codeOf, fetchStable, Workplace } from './producing.ts'

/** Of a produce reply for one partition: the code is behind tags, counts, topic and index. */
function withCode(code: number) {
  return (body: Buffer): Buffer => {
    const changed = Buffer.from(body)
    const topicBytes = body[2]! - 1
    changed.writeInt16BE(code, 3 + topicBytes + 1 + 4)
    return changed
  }
}

describeOnKafka('transactions over a bad network', kafka => {
  let place: Workplace
  let proxy: KafkaProxy
  let cluster: Cluster
  let producer: TransactionalProducer
  let topic: string
  const transactionalId = () => ownName('id')

  beforeEach(async () => {
    place = new Workplace(kafka.bootstrap)
    proxy = await KafkaProxy.start(kafka.bootstrap)
    cluster = await place.cluster(proxy.bootstrap)
    producer = await place.producer(cluster, { transactionalId: transactionalId() })
    topic = await place.topic(2)
    await producer.transact({ appends: [appendOf(topic, 0, 'first')] })
  })
  afterEach(async () => {
    proxy.clear()
    await place.close()
    await proxy.close()
  })

  const write = (...values: readonly string[]) =>
    producer.transact({ appends: values.map(value => appendOf(topic, 0, value)) })

  test('a lost Produce reply is asked for again, and nothing is doubled', async () => {
    const rule = proxy.rule({ api: 'produce', on: 'reply', fault: 'cut' })
    const receipts = await write('a', 'b', 'c')
    expect(rule.hits).toBe(1)
    expect(receipts.map(receipt => receipt.baseOffset)).toEqual([2, 3, 4])
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b', 'c'], []])
  })

  test('a lost Produce request is sent again', async () => {
    proxy.rule({ api: 'produce', on: 'request', fault: 'cut', times: 3 })
    await write('a', 'b', 'c')
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b', 'c'], []])
  })

  test('a reply that never comes is given up after the request timeout', async () => {
    proxy.rule({ api: 'produce', on: 'reply', fault: 'drop' })
    await write('a', 'b')
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b'], []])
  })

  test('a connection lost with five requests under way keeps the order', async () => {
    const values = Array.from({ length: 40 }, (_, i) => `${i}`)
    const rules = [7, 15, 23].map(from =>
      proxy.rule({ api: 'produce', on: 'reply', fault: 'cut', from }),
    )
    await write(...values)
    expect(rules.map(rule => rule.hits)).toEqual([1, 1, 1])
    expect(await place.read(topic, 2)).toEqual([['first', ...values], []])
  })

  test('a request in the middle that is lost holds back what is behind it', async () => {
    const values = Array.from({ length: 40 }, (_, i) => `${i}`)
    proxy.rule({ api: 'produce', on: 'request', fault: 'drop', from: 9 })
    await write(...values)
    expect(await place.read(topic, 2)).toEqual([['first', ...values], []])
  })

  test.each([
    ['NOT_LEADER_OR_FOLLOWER', 6],
    ['NOT_ENOUGH_REPLICAS_AFTER_APPEND', 20],
    ['REQUEST_TIMED_OUT', 7],
    ['CONCURRENT_TRANSACTIONS', 51],
  ])('a batch refused with %s is sent again with its sequence, in order', async (_, code) => {
    const fault = { rewrite: withCode(code) }
    const rules = [2, 5].map(from => proxy.rule({ api: 'produce', on: 'reply', fault, from }))
    const values = Array.from({ length: 12 }, (_, i) => `${i}`)
    const receipts = await write(...values)
    expect(rules.map(rule => rule.hits)).toEqual([1, 1])
    expect(receipts.map(receipt => receipt.baseOffset)).toEqual(values.map((_, i) => i + 2))
    expect(await place.read(topic, 2)).toEqual([['first', ...values], []])
  })

  test.each([
    ['OUT_OF_ORDER_SEQUENCE_NUMBER', 45],
    ['DUPLICATE_SEQUENCE_NUMBER without an offset', 46],
    ['TRANSACTION_ABORTABLE', 120],
    ['INVALID_PRODUCER_EPOCH', 47],
    ['INVALID_TXN_STATE', 48],
  ])('%s ends the transaction with an abort, and the next goes on', async (_, code) => {
    const rewrite = (body: Buffer) => {
      const changed = withCode(code)(body)
      const topicBytes = body[2]! - 1
      changed.writeBigInt64BE(-1n, 3 + topicBytes + 1 + 4 + 2)
      return changed
    }
    proxy.rule({ api: 'produce', on: 'reply', fault: { rewrite } })
    expect(await codeOf(write('a', 'b'))).toBe('KAFKA_TRANSACTION_ABORTED')
    await write('c')
    expect(await place.read(topic, 2)).toEqual([['first', 'c'], []])
  })

  test('what the broker refuses for good is named, and nothing of it is visible', async () => {
    const TOPIC_AUTHORIZATION_FAILED = 29
    const fault = { rewrite: withCode(TOPIC_AUTHORIZATION_FAILED) }
    proxy.rule({ api: 'produce', on: 'reply', fault })
    await expect(write('a')).rejects.toThrow(/KAFKA_REFUSED|TOPIC_AUTHORIZATION_FAILED/)
    await write('b')
    expect(await place.read(topic, 2)).toEqual([['first', 'b'], []])
  })

  test.each(['produce', 'txnOffsetCommit', 'endTxn'] as const)(
    'a duplicated %s request has the effect of one',
    async api => {
      const group = ownName('group')
      const rule = proxy.rule({ api, on: 'request', fault: 'duplicate', times: 4 })
      for (let i = 0; i < 4; i++) {
        const offsets = [{ topic, partition: 1, offset: i, metadata: `epoch ${i}` }]
        await producer.transact({
          appends: [appendOf(topic, 0, `${i}`), appendOf(topic, 0, `${i}'`)],
          group: { id: group, memberId: 'member', memberEpoch: -1, offsets },
        })
      }
      expect(rule.hits).toBe(4)
      const values = [0, 1, 2, 3].flatMap(i => [`${i}`, `${i}'`])
      expect(await place.read(topic, 2)).toEqual([['first', ...values], []])
      expect(await place.committed(group, { topic, partition: 1 })).toBe('3 epoch 3')
    },
  )

  test('fault 5: a lost EndTxn reply is asked for again: committed, once', async () => {
    const rule = proxy.rule({ api: 'endTxn', on: 'reply', fault: 'cut', times: 2 })
    await write('a')
    expect(rule.hits).toBe(2)
    await write('b')
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b'], []])
  })

  test('fault 5: a commit that nobody answers for is unknown, and settled as committed', async () => {
    const impatient = await place.producer(cluster, { timeoutMs: 4000 })
    const commit = (value: string) => impatient.transact({ appends: [appendOf(topic, 0, value)] })
    await commit('a')
    proxy.rule({ api: 'endTxn', on: 'reply', fault: 'cut', times: 1e6 })
    expect(await codeOf(commit('b'))).toBe('KAFKA_OUTCOME_UNKNOWN')
    expect(await codeOf(impatient.settle())).toBe('KAFKA_OUTCOME_UNKNOWN')
    expect(await codeOf(commit('refused'))).toBe('KAFKA_TRANSACTION_ABORTED')
    proxy.clear()
    const next = commit('c')
    // It settles the one before it, whose end is told all the same.
    expect(await impatient.settle()).toBe('committed')
    await next
    expect(await producer.settle()).toBe('none')
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b', 'c'], []])
  })

  test('a commit that never arrived is unknown, and settled as aborted', async () => {
    const impatient = await place.producer(cluster, { timeoutMs: 4000 })
    const commit = (value: string) => impatient.transact({ appends: [appendOf(topic, 0, value)] })
    await commit('a')
    proxy.rule({ api: 'endTxn', on: 'request', fault: 'cut', times: 1e6 })
    expect(await codeOf(commit('b'))).toBe('KAFKA_OUTCOME_UNKNOWN')
    proxy.clear()
    expect(await impatient.settle()).toBe('aborted')
    await commit('c')
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'c'], []])
  })

  test('fault 4: a late EndTxn of one transaction does nothing to the next', async () => {
    const late = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold' })
    await write('a')
    expect(proxy.requests('endTxn')).toBeGreaterThan(2)
    const open = proxy.rule({ api: 'produce', on: 'reply', fault: 'hold', from: 2 })
    const next = write('b', 'c')
    await open.hit()
    const seen = proxy.requests('endTxn')
    late.release()
    await new Promise(resolve => setTimeout(resolve, 300))
    open.release()
    await next
    expect(proxy.requests('endTxn')).toBeGreaterThan(seen)
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b', 'c'], []])
  })

  test('fault 4: an EndTxn that comes after it was settled as aborted commits nothing', async () => {
    const impatient = await place.producer(cluster, { timeoutMs: 5000 })
    const commit = (value: string) => impatient.transact({ appends: [appendOf(topic, 0, value)] })
    await commit('a')
    const late = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold', times: 1e6 })
    expect(await codeOf(commit('lost'))).toBe('KAFKA_OUTCOME_UNKNOWN')
    const settled = impatient.settle()
    // Every request so far is held; those sent from here on go before them.
    proxy.remove(late)
    expect(await settled).toBe('aborted')
    late.release()
    await new Promise(resolve => setTimeout(resolve, 300))
    await commit('b')
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b'], []])
  })

  test('fault 6: offsets under a pending commit are unstable, then the new ones', async () => {
    const group = ownName('group')
    const commit = (offset: number) =>
      producer.transact({
        appends: [appendOf(topic, 0, `${offset}`)],
        group: {
          id: group,
          memberId: 'member',
          memberEpoch: -1,
          offsets: [{ topic, partition: 0, offset, metadata: 'm' }],
        },
      })
    const target = { topic, partition: 0 }
    await commit(10)
    expect(await place.committed(group, target)).toBe('10 m')
    // Those that are sent again after a second, too.
    const rule = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold', times: 1000 })
    const pending = commit(20)
    await rule.hit()
    const UNSTABLE_OFFSET_COMMIT = 88
    expect(await fetchStable(cluster, group, target)).toBe(`error ${UNSTABLE_OFFSET_COMMIT}`)
    rule.release()
    await pending
    expect(await place.committed(group, target)).toBe('20 m')
  })

  test('a coordinator that is not available for longer than a request may take', async () => {
    /** Behind tags, time, count, key, node, host and port. */
    const unavailable = (body: Buffer) => {
      const keyBytes = body[6]! - 1
      const hostBytes = body[7 + keyBytes + 4]! - 1
      const changed = Buffer.from(body)
      const COORDINATOR_NOT_AVAILABLE = 15
      changed.writeInt16BE(COORDINATOR_NOT_AVAILABLE, 7 + keyBytes + 4 + 1 + hostBytes + 4)
      return changed
    }
    const fault = { rewrite: unavailable }
    const rule = proxy.rule({ api: 'findCoordinator', on: 'reply', fault, times: 1e6 })
    proxy.rule({ api: 'endTxn', on: 'reply', fault: 'cut' })
    const pending = write('a')
    await rule.hit()
    await new Promise(resolve => setTimeout(resolve, 2500))
    proxy.clear()
    await pending
    expect(await place.read(topic, 2)).toEqual([['first', 'a'], []])
  })

  test('offsets whose acknowledgement is lost are sent again', async () => {
    const group = ownName('group')
    const rule = proxy.rule({ api: 'txnOffsetCommit', on: 'reply', fault: 'cut', times: 2 })
    const offsets = [{ topic, partition: 0, offset: 5, metadata: 'm' }]
    const member = { id: group, memberId: 'member', memberEpoch: -1, offsets }
    await producer.transact({ appends: [appendOf(topic, 0, 'a')], group: member })
    expect(rule.hits).toBe(2)
    expect(await place.committed(group, offsets[0]!)).toBe('5 m')
  })

  test('a transaction that is called off is aborted, also in the middle of its batches', async () => {
    const rule = proxy.rule({ api: 'produce', on: 'reply', fault: 'hold', from: 3 })
    const pending = codeOf(write('a', 'b', 'c', 'd', 'e'))
    await rule.hit()
    const aborted = producer.abort()
    rule.release()
    await aborted
    expect(await pending).toBe('KAFKA_TRANSACTION_ABORTED')
    await write('f')
    expect(await place.read(topic, 2)).toEqual([['first', 'f'], []])
  })

  test('a transaction that waits for the one before to be settled can be called off', async () => {
    const impatient = await place.producer(cluster, { timeoutMs: 4000 })
    const commit = (value: string) => impatient.transact({ appends: [appendOf(topic, 0, value)] })
    const rule = proxy.rule({ api: 'endTxn', on: 'request', fault: 'cut', times: 1e6 })
    expect(await codeOf(commit('a'))).toBe('KAFKA_OUTCOME_UNKNOWN')
    const produced = proxy.requests('produce')
    const waiting = codeOf(commit('b'))
    await rule.hit(rule.hits + 1)
    await impatient.abort()
    expect(await waiting).toBe('KAFKA_TRANSACTION_ABORTED')
    expect(proxy.requests('produce')).toBe(produced)
    proxy.clear()
    await commit('c')
    expect(await place.read(topic, 2)).toEqual([['first', 'c'], []])
  })

  test('a half-open connection is noticed, and the transaction goes on over another', async () => {
    const rule = proxy.rule({ api: 'produce', on: 'reply', fault: { delayMs: 1 }, from: 2 })
    const pending = write('a', 'b', 'c', 'd')
    await rule.hit()
    proxy.freeze()
    await new Promise(resolve => setTimeout(resolve, 200))
    proxy.thaw()
    await pending
    expect(await place.read(topic, 2)).toEqual([['first', 'a', 'b', 'c', 'd'], []])
  })

  test('a zombie between its last batch and its commit cannot commit any more', async () => {
    const id = transactionalId()
    const zombie = await place.producer(cluster, { transactionalId: id })
    const rule = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold', times: 1000 })
    const late = codeOf(zombie.transact({ appends: [appendOf(topic, 0, 'zombie')] }))
    await rule.hit()
    const heir = await place.producer(await place.cluster(), { transactionalId: id })
    await heir.transact({ appends: [appendOf(topic, 0, 'heir')] })
    rule.release()
    // Whether the code is the one or the other depends on whether the held request was given up.
    expect(['KAFKA_PRODUCER_FENCED', 'KAFKA_OUTCOME_UNKNOWN']).toContain(await late)
    expect(await codeOf(zombie.settle())).toBe('KAFKA_PRODUCER_FENCED')
    const again = zombie.transact({ appends: [appendOf(topic, 0, 'zombie')] })
    expect(await codeOf(again)).toBe('KAFKA_PRODUCER_FENCED')
    await heir.transact({ appends: [appendOf(topic, 0, 'heir again')] })
    expect(await place.read(topic, 2)).toEqual([['first', 'heir', 'heir again'], []])
  })

  test('a close in the middle of a transaction leaves none open', async () => {
    const rule = proxy.rule({ api: 'produce', on: 'reply', fault: 'hold', from: 2 })
    const pending = codeOf(write('a', 'b', 'c'))
    await rule.hit()
    const closed = producer.close()
    rule.release()
    await closed
    expect(await pending).toBe('KAFKA_TRANSACTION_ABORTED')
    expect(await place.read(topic, 2)).toEqual([['first'], []])
  })
})
