import { expect, test } from 'vitest'
import { CODECS } from '../../../log/compression.ts'
import {
  nextSequence,
  type OutgoingBatch,
  splitBatches,
} from '../../../log/kafka/producer-batches.ts'
import { produceV12 } from '../../../log/kafka/producer-wire.ts'
import { readBatchHeader, readBatchHeaders } from '../../../log/record-batch.ts'
import { decodeBatches } from '../../../log/record-columns.ts'
import { Random } from '../../support/random.ts'
import { makeBatch, rendered } from '../batches.ts'

const target = { topic: 'orders', partition: 3 }
const sent = ({ header, body }: OutgoingBatch) => Buffer.concat([header, body])

test('a stamped batch is what a builder would have made, its CRC included', () => {
  const random = new Random(11)
  for (const compression of CODECS) {
    for (const count of [1, 2, 700]) {
      const records = Array.from({ length: count }, (_, i) => ({
        key: `${random.below(1e9)}`,
        value: `${i}`,
        timestampMs: 1_700_000_000_000 + i,
      }))
      const options = { compression, producerId: 4_294_967_311, producerEpoch: 32_766 }
      const expected = makeBatch(records, { ...options, baseSequence: 77, transactional: true })
      const [batch] = splitBatches(target, 0, makeBatch(records, { compression }))
      batch!.stamp({ producerId: options.producerId, epoch: options.producerEpoch }, 77)
      expect(sent(batch!).equals(expected)).toBe(true)
      readBatchHeader(sent(batch!), 0, expected.length, true)
    }
  }
})

test('stamping again, for the next epoch, starts from the bytes as they were', () => {
  const bytes = makeBatch([{ value: 'a' }])
  const before = Buffer.from(bytes)
  const [batch] = splitBatches(target, 0, bytes)
  batch!.stamp({ producerId: 1, epoch: 1 }, 5)
  batch!.stamp({ producerId: 2, epoch: 2 }, 6)
  expect(bytes.equals(before)).toBe(true)
  const [header] = readBatchHeaders(sent(batch!), true)
  expect(header).toMatchObject({ producerId: 2, producerEpoch: 2, baseSequence: 6 })
})

test('a damaged body keeps a CRC that does not match', () => {
  const bytes = makeBatch([{ value: 'sound' }])
  bytes[bytes.length - 2]! ^= 4
  const [batch] = splitBatches(target, 0, bytes)
  batch!.stamp({ producerId: 1, epoch: 1 }, 0)
  expect(() => readBatchHeaders(sent(batch!), true)).toThrow('its CRC does not match')
})

test('a batch keeps its source, which learns its offset', () => {
  const bytes = makeBatch([{ value: 'a' }, { value: 'b' }])
  const [batch] = splitBatches(target, 0, bytes)
  batch!.stamp({ producerId: 1, epoch: 1 }, 0)
  batch!.acknowledge(1234)
  expect(rendered(decodeBatches(bytes))).toEqual(["1234 0 null 'a'", "1235 0 null 'b'"])
})

test('an append is cut into its batches, and bytes that are none are refused', () => {
  const one = makeBatch([{ value: 'a' }, { value: 'b' }])
  const two = makeBatch([{ value: 'c' }])
  const batches = splitBatches(target, 9, Buffer.concat([one, two]))
  expect(batches.map(({ append, span, sizeBytes }) => [append, span, sizeBytes])).toEqual([
    [9, 2, one.length],
    [9, 1, two.length],
  ])
  expect(() => splitBatches(target, 0, Buffer.concat([one, two.subarray(0, 65)]))).toThrow(
    'its end is missing',
  )
  expect(() => splitBatches(target, 0, Buffer.from('no batch at all, but long enough'))).toThrow(
    'format version',
  )
})

test('sequences wrap to 0 after 2^31 - 1, as in Kafka', () => {
  expect(nextSequence(0, 10)).toBe(10)
  expect(nextSequence(2 ** 31 - 11, 10)).toBe(2 ** 31 - 1)
  expect(nextSequence(2 ** 31 - 1, 1)).toBe(0)
  expect(nextSequence(2 ** 31 - 3, 10)).toBe(7)
})

test('a request has a topic once, and each batch behind its partition', () => {
  const place = (topic: string, partition: number, value: string) => {
    const [batch] = splitBatches({ topic, partition }, 0, makeBatch([{ value }]))
    batch!.stamp({ producerId: 7, epoch: 1 }, 0)
    return batch!
  }
  const batches = [place('b', 1, 'x'), place('a', 0, 'y'), place('b', 0, 'z'.repeat(1000))]
  const pieces: Buffer[] = []
  const connection = {
    send(_key: number, _version: number, body: () => { buffer: Buffer }) {
      pieces.push(body().buffer)
    },
  }
  const request = { transactionalId: 'id', timeoutMs: 100, batches }
  const callback = () => {}
  produceV12(connection as unknown as Parameters<typeof produceV12>[0], request, callback)
  const [b1, a0, b0] = batches.map(sent) as [Buffer, Buffer, Buffer]
  const records = (bytes: Buffer) => {
    const size = bytes.length + 1
    return Buffer.concat([Buffer.from([(size & 127) | 128, size >> 7]), bytes, Buffer.from([0])])
  }
  const small = (bytes: Buffer) =>
    Buffer.concat([Buffer.from([bytes.length + 1]), bytes, Buffer.from([0])])
  expect(pieces[0]!.toString('hex')).toBe(
    Buffer.concat([
      Buffer.from('03' + '6964' + 'ffff' + '00000064' + '03', 'hex'),
      Buffer.from('02' + '62' + '03' + '00000001', 'hex'),
      small(b1),
      Buffer.from('00000000', 'hex'),
      records(b0),
      Buffer.from('00' + '02' + '61' + '02' + '00000000', 'hex'),
      small(a0),
      Buffer.from('00' + '00', 'hex'),
    ]).toString('hex'),
  )
})
