/**
 * The list-append check: transactions append values of their own to several lists (partitions) and
 * commit an offset, through a proxy that does from a seed what bad networks do, with producers that
 * are opened anew and zombies beside them. Afterwards an independent client reads the lists:
 * a transaction is there as a whole or not at all, once, in order, and as its commit has said.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Cluster } from '../../../log/kafka/cluster.ts'
import type { ProducerReceipt, TransactionalProducer } from '../../../log/kafka/producer.ts'
import type { ApiName, Fault, RuleOptions } from '../../support/kafka-proxy.ts'
import { Random } from '../../support/random.ts'
import { batchOf, codeOf, type ProxiedKafka, Workplace } from './producing.ts'

const PARTITIONS = 4
/** So that lost requests, and transactions that cannot go on, cost little time. */
const REQUEST_TIMEOUT_MS = 600
const TIMEOUT_MS = 2500

export interface ListAppendOptions {
  readonly proxied: ProxiedKafka
  readonly seed: number
  readonly transactions: number
  /** Kill and restart the broker once on the way. */
  readonly isBrokerKilled: boolean
}

export interface ListAppendResult {
  /** Transactions by how they ended, and faults by how often. */
  readonly counts: ReadonlyMap<string, number>
  /** Empty when all is well. */
  readonly problems: readonly string[]
}

/** `present` and `absent` are certain; `open` was never told. */
type Ending = 'present' | 'absent' | 'open'

interface Written {
  readonly index: number
  /** One an append: the values of its batches, in order. */
  readonly appends: readonly { readonly partition: number; readonly batches: string[][] }[]
  ending: Ending
  receipts: readonly ProducerReceipt[]
}

export async function runListAppend(options: ListAppendOptions): Promise<ListAppendResult> {
  const place = new Workplace(options.proxied.kafka.bootstrap)
  const run = new ListAppend(options, place)
  try {
    return await run.result()
  } finally {
    options.proxied.proxy.clear()
    options.proxied.amongBrokers.clear()
    await place.close()
  }
}

class ListAppend {
  readonly #options: ListAppendOptions
  readonly #place: Workplace
  readonly #random: Random
  readonly #written: Written[] = []
  readonly #counts = new Map<string, number>()
  readonly #problems: string[] = []
  #cluster: Cluster | undefined
  #producer: TransactionalProducer | undefined
  #topic = ''
  readonly #group: string
  readonly #transactionalId: string

  constructor(options: ListAppendOptions, place: Workplace) {
    this.#options = options
    this.#place = place
    this.#random = new Random(options.seed)
    this.#group = `list-append-${options.seed}-${process.pid}`
    this.#transactionalId = this.#group
  }

  async result(): Promise<ListAppendResult> {
    const { proxied, transactions, isBrokerKilled } = this.#options
    const { proxy, amongBrokers } = proxied
    this.#topic = await this.#place.topic(PARTITIONS)
    this.#cluster = await this.#place.cluster(proxy.bootstrap, REQUEST_TIMEOUT_MS)
    const killAt = isBrokerKilled ? this.#random.below(transactions) : -1
    for (let index = 0; index < transactions; index++) {
      this.#disturb()
      const chance = this.#random.below(100)
      if (index === killAt) await Promise.all([this.#killBroker(), this.#transact(index)])
      else if (chance < 4) await this.#besideZombie(index)
      else await this.#transact(index)
      if (chance >= 90) this.#producer = undefined
      if (chance % 3 === 0) {
        proxy.clear()
        amongBrokers.clear()
      }
    }
    proxy.clear()
    amongBrokers.clear()
    await this.#verify()
    return { counts: this.#counts, problems: this.#problems }
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1)
  }

  async #killBroker(): Promise<void> {
    const { kafka, proxy } = this.#options.proxied
    await new Promise(resolve => setTimeout(resolve, this.#random.below(20)))
    this.#count('broker killed')
    await kafka.kill()
    proxy.clear()
    await kafka.restart()
  }

  #disturb(): void {
    const { proxy, amongBrokers } = this.#options.proxied
    const random = this.#random
    for (let left = random.below(3); left > 0; left--) {
      const options = randomRule(random)
      const rule = (AMONG_BROKERS.has(options.api) ? amongBrokers : proxy).rule(options)
      this.#count(`rule on ${rule.options.api}`)
      if (rule.options.fault === 'hold') setTimeout(() => rule.release(), 20 + random.below(700))
    }
    if (random.below(30) === 0) {
      const on = random.pick(['request', 'reply'] as const)
      proxy.rule({ api: 'endTxn', on, fault: 'cut', times: Number.POSITIVE_INFINITY })
      this.#count('no answer to any endTxn')
    }
    if (random.below(20) === 0) setTimeout(() => proxy.cut(), random.below(15))
    if (random.below(40) === 0) {
      proxy.freeze()
      setTimeout(() => proxy.thaw(), 5 + random.below(100))
    }
  }

  async #open(): Promise<TransactionalProducer> {
    const options = { transactionalId: this.#transactionalId, timeoutMs: TIMEOUT_MS }
    for (;;) {
      try {
        this.#producer = await this.#place.producer(this.#cluster!, options)
        this.#count('producer opened')
        return this.#producer
      } catch (error) {
        if ((error as { code?: string }).code !== 'KAFKA_UNREACHABLE') throw error
      }
    }
  }

  async #transact(index: number): Promise<void> {
    const producer = this.#producer ?? (await this.#open())
    await this.#with(producer, index)
  }

  /** A transaction goes on while its producer's successor opens. */
  async #besideZombie(index: number): Promise<void> {
    const zombie = this.#producer ?? (await this.#open())
    const late = this.#with(zombie, index)
    await this.#open()
    this.#count('zombie')
    await late
  }

  async #with(producer: TransactionalProducer, index: number): Promise<void> {
    const written = randomTransaction(this.#random, index)
    this.#written.push(written)
    const topic = this.#topic
    const offsets = [{ topic, partition: 0, offset: index, metadata: `${index}` }]
    const group = { id: this.#group, memberId: 'member', memberEpoch: -1, offsets }
    const appends = written.appends.map(({ partition, batches }) => ({
      target: { topic, partition },
      batch: Buffer.concat(batches.map(values => batchOf(...values))),
    }))
    const code = await codeOf(
      producer.transact({ appends, group }).then(receipts => {
        written.receipts = receipts
      }),
    )
    this.#count(code)
    if (code === 'fulfilled') written.ending = 'present'
    else if (code === 'KAFKA_OUTCOME_UNKNOWN') written.ending = await this.#settle(producer)
    else if (/^KAFKA_(TRANSACTION_ABORTED|PRODUCER_FENCED)$/.test(code)) written.ending = 'absent'
    else this.#problems.push(`transaction ${index} ended with ${code}`)
    const isFenced = code === 'KAFKA_PRODUCER_FENCED' || written.ending === 'open'
    if (isFenced && this.#producer === producer) this.#producer = undefined
  }

  async #settle(producer: TransactionalProducer): Promise<Ending> {
    this.#options.proxied.proxy.clear()
    for (;;) {
      try {
        const settlement = await producer.settle()
        this.#count(`settled as ${settlement}`)
        return settlement === 'committed' ? 'present' : 'absent'
      } catch (error) {
        const { code } = error as { code?: string }
        if (code === 'KAFKA_PRODUCER_FENCED') return 'open'
        if (code !== 'KAFKA_OUTCOME_UNKNOWN') throw error
      }
    }
  }

  async #verify(): Promise<void> {
    const records = await this.#place.records(this.#topic, PARTITIONS)
    const seen = new Set(records.flat().map(({ value }) => Number(value.split('.')[0])))
    const isPresent = ({ index, ending }: Written) =>
      ending === 'open' ? seen.has(index) : ending === 'present'
    const present = this.#written.filter(isPresent)
    for (const [partition, read] of records.entries()) {
      const expected = present.flatMap(({ appends }) =>
        appends.filter(one => one.partition === partition).flatMap(one => one.batches.flat()),
      )
      const values = read.map(({ value }) => value)
      if (!isDeepStrictEqual(values, expected)) {
        this.#problems.push(`partition ${partition}: ${firstDifference(values, expected)}`)
      }
    }
    this.#verifyReceipts(
      present,
      records.map(read => new Map(read.map(r => [r.value, r.offset]))),
    )
    const last = present.at(-1)?.index ?? -1
    const committed = await this.#place.committed(this.#group, { topic: this.#topic, partition: 0 })
    const wanted = last < 0 ? '-1 ' : `${last} ${last}`
    if (committed !== wanted) this.#problems.push(`the offset is ${committed}, not ${wanted}`)
  }

  #verifyReceipts(present: readonly Written[], offsets: readonly Map<string, number>[]): void {
    for (const { index, appends, receipts } of present) {
      for (const [i, receipt] of receipts.entries()) {
        const { partition, batches } = appends[i]!
        const actual = batches.map(values => offsets[partition]!.get(values[0]!))
        if (!isDeepStrictEqual(actual, receipt.baseOffsets)) {
          this.#problems.push(`receipt ${i} of transaction ${index} is ${receipt.baseOffsets}`)
        }
      }
    }
  }
}

function firstDifference(values: readonly string[], expected: readonly string[]): string {
  const at = expected.findIndex((value, i) => value !== values[i])
  const i = at < 0 ? expected.length : at
  const shown = (list: readonly string[]) =>
    list
      .slice(i, i + 3)
      .join(' ')
      .slice(0, 80)
  return `at ${i} of ${expected.length} stands [${shown(values)}] for [${shown(expected)}]`
}

function randomTransaction(random: Random, index: number): Written {
  const appends: { partition: number; batches: string[][] }[] = []
  const isLarge = random.below(12) === 0
  let next = 0
  for (let left = 1 + random.below(6); left > 0; left--) {
    const batches = Array.from({ length: 1 + random.below(3) }, () =>
      Array.from({ length: 1 + random.below(4) }, () => {
        const padding = isLarge ? `.${'x'.repeat(random.below(200_000))}` : ''
        return `${index}.${next++}${padding}`
      }),
    )
    appends.push({ partition: random.below(PARTITIONS), batches })
  }
  return { index, appends, ending: 'absent', receipts: [] }
}

const APIS: readonly ApiName[] = [
  'produce',
  'produce',
  'produce',
  'endTxn',
  'endTxn',
  'endTxn',
  'txnOffsetCommit',
  'initProducerId',
  'findCoordinator',
  'metadata',
  'writeTxnMarkers',
  'addPartitionsToTxn',
]
/** What goes between brokers waits long for a lost answer. */
const AMONG_BROKERS: ReadonlySet<ApiName> = new Set(['writeTxnMarkers', 'addPartitionsToTxn'])
/** Codes that a broker may answer though it has done what was asked, or has not. */
const REFUSALS: Readonly<Partial<Record<ApiName, readonly number[]>>> = {
  produce: [6, 7, 19, 20, 51],
  endTxn: [14, 15, 16],
}

function randomRule(random: Random): RuleOptions {
  const api = random.pick(APIS)
  const on = random.below(2) === 0 ? 'request' : 'reply'
  const faults: Fault[] = ['cut', 'hold', { delayMs: random.below(200) }]
  if (!AMONG_BROKERS.has(api)) faults.push('cut', 'drop')
  if (on === 'request') faults.push('duplicate', 'duplicate')
  const codes = REFUSALS[api]
  if (on === 'reply' && codes !== undefined) {
    const code = random.pick(codes)
    faults.push({ rewrite: body => withRefusal(api, body, code) })
    faults.push({ rewrite: body => withRefusal(api, body, code) })
  }
  const fault = random.pick(faults)
  return { api, on, fault, from: 1 + random.below(3), times: 1 + random.below(3) }
}

/** Of a produce reply the code of its first partition: behind tags, counts, topic and index. */
function withRefusal(api: ApiName, body: Buffer, code: number): Buffer {
  const at = api === 'produce' ? 3 + (body[2]! - 1) + 1 + 4 : 1 + 4
  const changed = Buffer.from(body)
  changed.writeInt16BE(code, at)
  return changed
}
