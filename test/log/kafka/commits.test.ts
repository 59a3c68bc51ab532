/** Commits: epochs with their state, and appends beside them. */
import { afterEach, expect, test } from 'vitest'
import type { Database } from '../../../log/database.ts'
import type { KafkaLog, KafkaLogOptions } from '../../../log/kafka/index.ts'
import type { GroupMember, TopicPartition } from '../../../log/port.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { append, codeOf, linesOf, readAll, settled } from '../../conformance/log.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { KafkaProxy } from '../../support/kafka-proxy.ts'
import { batchOf, makeBatch } from '../batches.ts'
import { openLog } from './environment.ts'

const key = Buffer.from('key')

describeOnKafka('commits on Kafka', kafka => {
  const open: { close(): unknown }[] = []
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })

  const logAt = async (bootstrap: string, options: Partial<KafkaLogOptions> = {}) => {
    const log = await openLog(bootstrap, options)
    open.unshift(log)
    return log
  }
  const behindProxy = async (options: Partial<KafkaLogOptions> = {}) => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    open.push(proxy)
    return { proxy, log: await logAt(proxy.bootstrap, options) }
  }
  const newPlace = async (log: KafkaLog, config = {}): Promise<TopicPartition> => {
    const place = { topic: ownName('commits'), partition: 0 }
    await log.createTopic(place.topic, 2, config)
    return place
  }
  /** An epoch: one record, and a row of state that names its offset. */
  const epoch = (log: KafkaLog, place: TopicPartition, text: string) => {
    const transaction = log.begin()
    transaction.append(place, batchOf(text))
    return transaction.commit({
      state: ([{ baseOffset }], batch) => batch.put(key, Buffer.from(`${text} at ${baseOffset}`)),
    })
  }
  const rowOf = async (database: Database) => String((await database.getMany([key]))[0])

  test('state follows its transaction, in the order of the commits', async () => {
    const database = new MemoryDatabase()
    const log = await logAt(kafka.bootstrap, { database })
    const place = await newPlace(log)
    const commits = ['a=1', 'b=2', 'c=3'].map(text => epoch(log, place, text))
    const receipts = (await Promise.all(commits)).map(([receipt]) => receipt)
    expect(await rowOf(database)).toBe(`c=3 at ${receipts[2].baseOffset}`)
    expect(await readAll(log, place)).toEqual(
      receipts.flatMap((receipt, i) => linesOf(receipt, ['a=1', 'b=2', 'c=3'][i])),
    )
    expect(database.openHandles).toBe(0)
  })

  test('a state that cannot be written is told of, and what waited behind it is not sent', async () => {
    const database = new MemoryDatabase()
    const log = await logAt(kafka.bootstrap, { database })
    const place = await newPlace(log)
    await epoch(log, place, 'a=1')
    const broken = log.begin()
    broken.append(place, batchOf('b=2'))
    const state = () => {
      throw new Error('disk full')
    }
    const [second, third] = await Promise.all([
      codeOf(() => broken.commit({ state })),
      codeOf(() => epoch(log, place, 'c=3')),
    ])
    expect([second, third]).toEqual(['KAFKA_STATE_UNWRITTEN', 'KAFKA_TRANSACTION_ABORTED'])
    expect(await rowOf(database)).toBe('a=1 at 0')
    const texts = async () => (await readAll(log, place)).map(line => line.split(' ')[1])
    expect(await texts()).toEqual(['a=1', 'b=2'])
    await epoch(log, place, 'd=4')
    expect(await texts()).toEqual(['a=1', 'b=2', 'd=4'])
    expect(database.openHandles).toBe(0)
  })

  test('a commit whose answer is lost is settled: its state is written, once', async () => {
    const database = new MemoryDatabase()
    const { proxy, log } = await behindProxy({
      database,
      transactionTimeoutMs: 8000,
    })
    const place = await newPlace(log)
    await epoch(log, place, 'a=1')
    proxy.rule({ api: 'endTxn', on: 'reply', fault: 'cut', times: 5 })
    const [receipt] = await epoch(log, place, 'b=2')
    expect(await rowOf(database)).toBe(`b=2 at ${receipt.baseOffset}`)
    const third = await epoch(log, place, 'c=3')
    expect(await rowOf(database)).toBe(`c=3 at ${third[0].baseOffset}`)
    const texts = (await readAll(log, place)).map(line => line.split(' ')[1])
    expect(texts).toEqual(['a=1', 'b=2', 'c=3'])
  })

  test('a commit that never arrived is reported as aborted, without its state', async () => {
    const database = new MemoryDatabase()
    const { proxy, log } = await behindProxy({
      database,
      transactionTimeoutMs: 8000,
    })
    const place = await newPlace(log)
    await epoch(log, place, 'a=1')
    const lost = proxy.rule({ api: 'endTxn', on: 'request', fault: 'cut', times: 20 })
    expect(await codeOf(() => epoch(log, place, 'b=2'))).toMatch(/^KAFKA_(TRANSACTION|PRODUCER)/)
    await lost.hit()
    proxy.clear()
    expect(await rowOf(database)).toBe('a=1 at 0')
    await epoch(log, place, 'c=3')
    const texts = (await readAll(log, place)).map(line => line.split(' ')[1])
    expect(texts).toEqual(['a=1', 'c=3'])
  })

  test('appends do not wait for an epoch under way', async () => {
    const { proxy, log } = await behindProxy({ database: new MemoryDatabase() })
    const place = await newPlace(log)
    const beside = { ...place, partition: 1 }
    await epoch(log, place, 'a=1')
    await append(log, beside, 'x=1')
    const held = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold' })
    const waiting = epoch(log, place, 'b=2')
    await held.hit()
    await append(log, beside, 'y=2')
    expect(await readAll(log, beside)).toHaveLength(2)
    held.release()
    await waiting
  })

  test('appends that wait together are one transaction', async () => {
    const { proxy, log } = await behindProxy()
    const place = await newPlace(log)
    await append(log, place, 'a=1')
    const before = proxy.requests('endTxn')
    const receipts = await Promise.all(
      Array.from({ length: 50 }, (_, i) => append(log, place, `k=${i}`)),
    )
    expect(proxy.requests('endTxn') - before).toBeLessThanOrEqual(3)
    const expected = receipts.flatMap((receipt, i) => linesOf(receipt, `k=${i}`))
    expect((await readAll(log, place)).slice(1)).toEqual(expected)
  })

  test('one append that is refused takes none of those beside it along', async () => {
    const log = await logAt(kafka.bootstrap)
    const place = await newPlace(log, { batchBytesMax: 1000 })
    const large = log.begin()
    large.append(place, makeBatch([{ key: 'k', value: 'v'.repeat(2000) }]))
    const first = append(log, place, 'a=1')
    const refused = codeOf(() => large.commit())
    const last = append(log, place, 'b=2')
    expect(await refused).toBe('BATCH_TOO_LARGE')
    const expected = [...linesOf(await first, 'a=1'), ...linesOf(await last, 'b=2')]
    expect(await readAll(log, place)).toEqual(expected)
  })

  test('too much that waits is refused, not collected', async () => {
    const { proxy, log } = await behindProxy()
    const place = await newPlace(log)
    await append(log, place, 'a=1')
    const held = proxy.rule({ api: 'produce', on: 'request', fault: 'hold' })
    const value = 'v'.repeat(1 << 20)
    const commits = Array.from({ length: 80 }, () => {
      const transaction = log.begin()
      transaction.append(place, makeBatch([{ key: 'k', value }]))
      return codeOf(() => transaction.commit())
    })
    await held.hit()
    held.release()
    const codes = await Promise.all(commits)
    const taken = codes.filter(code => code === 'nothing thrown').length
    expect(codes.filter(code => code === 'LOG_BUSY').length).toBe(80 - taken)
    expect(taken).toBeGreaterThan(50)
    expect(taken).toBeLessThan(80)
    const [{ highWatermark }] = await settled(log, place)
    expect(highWatermark).toBeGreaterThan(taken)
  })

  test('opening a transactional id fences whoever has it, and ends what it left open', async () => {
    const transactionalId = ownName('instance')
    const { proxy, log: zombie } = await behindProxy({ transactionalId })
    const place = await newPlace(zombie)
    await append(zombie, place, 'a=1')
    const held = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold' })
    const late = codeOf(() => append(zombie, place, 'b=2'))
    await held.hit()
    const heir = await logAt(kafka.bootstrap, { transactionalId })
    await append(heir, place, 'c=3')
    held.release()
    expect(await late).toBe('KAFKA_PRODUCER_FENCED')
    const texts = (await readAll(heir, place)).map(line => line.split(' ')[1])
    expect(texts).toEqual(['a=1', 'c=3'])
  })

  test('a member commits its records and offsets as one', async () => {
    const log = await logAt(kafka.bootstrap, { database: new MemoryDatabase() })
    const place = await newPlace(log)
    const member: GroupMember = { id: 'nobody', epoch: 2 }
    const transaction = log.begin()
    transaction.append(place, batchOf('a=1'))
    const offsets = [{ ...place, offset: 1, metadata: '' }]
    const request = { group: ownName('group'), member, offsets }
    expect(await codeOf(() => transaction.commit(request))).toBe('KAFKA_MEMBER_FENCED')
    expect(await readAll(log, place)).toEqual([])
  })
})
