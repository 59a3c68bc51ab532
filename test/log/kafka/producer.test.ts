import { afterEach, beforeEach, expect, test } from 'vitest'
import { readInt64 } from '../../../log/record-batch.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { appendOf, batchOf, codeOf, Workplace } from './producing.ts'

describeOnKafka('transactions', kafka => {
  let place: Workplace
  beforeEach(() => {
    place = new Workplace(kafka.bootstrap)
  })
  afterEach(() => place.close())

  test('a committed transaction is read by another client, whole and in order', async () => {
    const topic = await place.topic(2)
    const producer = await place.producer(await place.cluster())
    const receipts = await producer.transact({
      appends: [
        {
          target: { topic, partition: 0 },
          batch: Buffer.concat([batchOf('a', 'b'), batchOf('c')]),
        },
        appendOf(topic, 1, 'd'),
        appendOf(topic, 0, 'e'),
      ],
    })
    expect(receipts).toEqual([
      { topic, partition: 0, baseOffset: 0, nextOffset: 3, baseOffsets: [0, 2] },
      { topic, partition: 1, baseOffset: 0, nextOffset: 1, baseOffsets: [0] },
      { topic, partition: 0, baseOffset: 3, nextOffset: 4, baseOffsets: [3] },
    ])
    expect(await place.read(topic, 2)).toEqual([['a', 'b', 'c', 'e'], ['d']])
  })

  test('offsets are committed with the records, for a member', async () => {
    const topic = await place.topic()
    const group = ownName('group')
    const producer = await place.producer(await place.cluster())
    const offsets = [{ topic, partition: 0, offset: 42, metadata: 'epoch 7' }]
    const request = { appends: [appendOf(topic, 0, 'a')] }
    const member = { id: group, memberId: 'member', memberEpoch: -1, offsets }
    await producer.transact({ ...request, group: member })
    expect(await place.committed(group, offsets[0]!)).toBe('42 epoch 7')
    const nobody = () => producer.transact({ ...request, group: { ...member, memberId: '' } })
    expect(nobody).toThrow('offsets name a member')
  })

  test('offsets alone are a transaction', async () => {
    const topic = await place.topic()
    const group = ownName('group')
    const producer = await place.producer(await place.cluster())
    const offsets = [{ topic, partition: 0, offset: 3, metadata: 'm' }]
    const member = { id: group, memberId: 'member', memberEpoch: -1, offsets }
    expect(await producer.transact({ appends: [], group: member })).toEqual([])
    expect(await place.committed(group, offsets[0]!)).toBe('3 m')
  })

  test('a group that refuses the member refuses the whole transaction', async () => {
    const topic = await place.topic()
    const group = ownName('group')
    const producer = await place.producer(await place.cluster())
    const offsets = [{ topic, partition: 0, offset: 42, metadata: '' }]
    const stale = { id: group, memberId: 'gone', memberEpoch: 7, offsets }
    const refused = producer.transact({ appends: [appendOf(topic, 0, 'a')], group: stale })
    expect(await codeOf(refused)).toBe('KAFKA_MEMBER_FENCED')
    expect(await codeOf(producer.transact({ appends: [appendOf(topic, 0, 'b')] }))).toBe(
      'fulfilled',
    )
    expect(await place.read(topic)).toEqual([['b']])
    expect(await place.committed(group, offsets[0]!)).toBe('-1 ')
  })

  test('a group that has members takes no offsets from others', async () => {
    const topic = await place.topic()
    const group = ownName('group')
    await place.member(group, topic)
    const producer = await place.producer(await place.cluster())
    const offsets = [{ topic, partition: 0, offset: 42, metadata: '' }]
    const outsider = { id: group, memberId: 'outsider', memberEpoch: -1, offsets }
    const refused = producer.transact({ appends: [appendOf(topic, 0, 'a')], group: outsider })
    expect(await codeOf(refused)).toBe('KAFKA_MEMBER_FENCED')
    expect(await place.committed(group, offsets[0]!)).toBe('-1 ')
  })

  test('each transaction has an epoch of its own, and sequences from 0', async () => {
    const topic = await place.topic()
    const producer = await place.producer(await place.cluster())
    const { producerId, epoch } = producer.identity
    for (let i = 0; i < 3; i++) await producer.transact({ appends: [appendOf(topic, 0, `${i}`)] })
    expect(producer.identity).toEqual({ producerId, epoch: epoch + 3 })
    expect(await place.read(topic)).toEqual([['0', '1', '2']])
  })

  test('transactions wait for each other', async () => {
    const topic = await place.topic()
    const producer = await place.producer(await place.cluster())
    const values = Array.from({ length: 10 }, (_, i) => `${i}`)
    await Promise.all(values.map(one => producer.transact({ appends: [appendOf(topic, 0, one)] })))
    expect(await place.read(topic)).toEqual([values])
  })

  test('a transaction of nothing sends nothing and leaves no marker', async () => {
    const topic = await place.topic()
    const producer = await place.producer(await place.cluster())
    const before = producer.identity
    const none = { id: ownName('group'), memberId: 'member', memberEpoch: 1, offsets: [] }
    expect(await producer.transact({ appends: [], group: none })).toEqual([])
    expect(producer.identity).toEqual(before)
    await producer.transact({ appends: [appendOf(topic, 0, 'a')] })
    const [receipt] = await producer.transact({ appends: [appendOf(topic, 0, 'b')] })
    expect(receipt!.baseOffset).toBe(2)
  })

  test('a batch larger than its topic takes is refused with topic, size and limit', async () => {
    const topic = await place.topic(1, { 'max.message.bytes': '2000' })
    const producer = await place.producer(await place.cluster())
    const large = appendOf(topic, 0, 'x'.repeat(3000))
    const appends = [appendOf(topic, 0, 'before'), large, appendOf(topic, 0, 'after')]
    await expect(producer.transact({ appends })).rejects.toMatchObject({
      code: 'BATCH_TOO_LARGE',
      details: { topic, size: large.batch.length, limit: 2000 },
    })
    await producer.transact({ appends: [appendOf(topic, 0, 'next')] })
    expect(await place.read(topic)).toEqual([['next']])
  })

  test('a topic or partition that does not exist is named', async () => {
    const topic = await place.topic(1)
    const producer = await place.producer(await place.cluster())
    const missing = ownName('missing')
    await expect(producer.transact({ appends: [appendOf(missing, 0, 'a')] })).rejects.toMatchObject(
      { code: 'TOPIC_MISSING', details: { topic: missing } },
    )
    await expect(
      producer.transact({ appends: [appendOf(topic, 0, 'a'), appendOf(topic, 1, 'b')] }),
    ).rejects.toMatchObject({ code: 'PARTITION_MISSING', details: { topic, partition: 1 } })
    await producer.transact({ appends: [appendOf(topic, 0, 'c')] })
    expect(await place.read(topic)).toEqual([['c']])
  })

  test('bytes that are no whole batches are refused before anything is sent', async () => {
    const topic = await place.topic()
    const producer = await place.producer(await place.cluster())
    const whole = batchOf('a')
    for (const batch of [whole.subarray(0, -1), Buffer.alloc(0)]) {
      const appends = [{ target: { topic, partition: 0 }, batch }]
      expect(await codeOf(producer.transact({ appends }))).toBe('BATCH_CORRUPT')
    }
    const { epoch } = producer.identity
    await producer.transact({ appends: [{ target: { topic, partition: 0 }, batch: whole }] })
    expect(producer.identity.epoch).toBe(epoch + 1)
  })

  test('a batch damaged in memory is found by the broker and not committed', async () => {
    const topic = await place.topic()
    const cluster = await place.cluster(place.bootstrap, 15_000)
    const producer = await place.producer(cluster, { timeoutMs: 6000 })
    const damaged = appendOf(topic, 0, 'damaged')
    damaged.batch[damaged.batch.length - 3]! ^= 1
    await expect(producer.transact({ appends: [damaged] })).rejects.toThrow(/CORRUPT_MESSAGE/)
    await producer.transact({ appends: [appendOf(topic, 0, 'sound')] })
    expect(await place.read(topic)).toEqual([['sound']])
  })

  test('thousands of batches on many partitions arrive in order', async () => {
    const topic = await place.topic(8)
    const producer = await place.producer(await place.cluster())
    const appends = Array.from({ length: 4000 }, (_, i) => appendOf(topic, i % 8, `${i}`))
    const receipts = await producer.transact({ appends })
    expect(receipts.map(receipt => receipt.baseOffset)).toEqual(
      appends.map((_, i) => Math.floor(i / 8)),
    )
    const read = await place.read(topic, 8)
    for (const [partition, values] of read.entries()) {
      expect(values).toEqual(Array.from({ length: 500 }, (_, i) => `${i * 8 + partition}`))
    }
  })

  test('the caller finds each batch placed in its own bytes, and nothing else changed', async () => {
    const topic = await place.topic()
    const producer = await place.producer(await place.cluster())
    await producer.transact({ appends: [appendOf(topic, 0, 'a', 'b')] })
    const append = appendOf(topic, 0, 'c')
    const before = Buffer.from(append.batch)
    await producer.transact({ appends: [append] })
    expect(readInt64(append.batch, 0)).toBe(3)
    expect(append.batch.subarray(16)).toEqual(before.subarray(16))
  })

  test('a second producer of the same transactional id fences the first', async () => {
    const topic = await place.topic()
    const transactionalId = ownName('id')
    const cluster = await place.cluster()
    const zombie = await place.producer(cluster, { transactionalId })
    await zombie.transact({ appends: [appendOf(topic, 0, 'zombie 1')] })
    const heir = await place.producer(await place.cluster(), { transactionalId })
    const late = zombie.transact({ appends: [appendOf(topic, 0, 'zombie 2')] })
    expect(await codeOf(late)).toBe('KAFKA_PRODUCER_FENCED')
    const again = zombie.transact({ appends: [appendOf(topic, 0, 'zombie 3')] })
    expect(await codeOf(again)).toBe('KAFKA_PRODUCER_FENCED')
    await heir.transact({ appends: [appendOf(topic, 0, 'heir')] })
    expect(await place.read(topic)).toEqual([['zombie 1', 'heir']])
  })

  test('a closed producer takes no more, and leaves nothing open', async () => {
    const topic = await place.topic()
    const producer = await place.producer(await place.cluster())
    const waiting = [1, 2, 3].map(i => producer.transact({ appends: [appendOf(topic, 0, `${i}`)] }))
    const codes = waiting.map(codeOf)
    await producer.close()
    await producer.close()
    const late = producer.transact({ appends: [appendOf(topic, 0, 'late')] })
    expect(await codeOf(late)).toBe('LOG_CLOSED')
    const seen = (await Promise.all(codes)).flatMap((code, i) =>
      code === 'fulfilled' ? [i + 1] : [],
    )
    expect(await place.read(topic)).toEqual([seen.map(String)])
  })
})
