/**
 * Changelogs, as Kafka's console consumer prints them with the command of docs/OPERATIONS.md, read
 * by what docs/FORMATS.md says of them and by nothing of ours.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fieldsKey, json, Topology, textKey, tumbling } from '../../../streams/index.ts'
import { type Application, startApplication } from '../../support/kafka/application.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { toolClasses } from '../../support/kafka/tool.ts'
import { root } from '../../support/processes.ts'
import { makeBatch } from '../batches.ts'

interface Order {
  readonly customer: string
  readonly region: string
  readonly total: number
}

const atMs = Date.UTC(2026, 0, 5, 12)
const MINUTE_MS = 60_000
const orders: readonly (Order & { id: string; timeMs: number })[] = [
  { id: 'o-1', customer: 'zoë', region: 'eu', total: 30, timeMs: atMs },
  { id: 'o-2', customer: 'bob', region: 'us', total: 12, timeMs: atMs + 1 },
  { id: 'o-3', customer: 'bob', region: 'us', total: 5, timeMs: atMs + MINUTE_MS },
]

function topologyOf(application: string): Topology {
  const topology = new Topology(application)
  const stream = topology.stream(`${application}-orders`, {
    key: textKey(),
    value: json<Order>(),
  })
  stream
    .groupBy(({ customer }) => customer, { name: 'by-customer', key: textKey('customer') })
    .aggregate<number>({ name: 'spend', initial: () => 0, add: (sum, { total }) => sum + total })
  stream
    .groupBy(({ region }) => ({ region }), { name: 'by-region', key: fieldsKey('region') })
    .windowedBy(tumbling(MINUTE_MS, { graceMs: MINUTE_MS }))
    .aggregate({
      name: 'volume',
      initial: () => ({ orders: 0 }),
      add: sum => ({ orders: sum.orders + 1 }),
    })
  const payments = topology.stream(`${application}-payments`, {
    key: textKey(),
    value: json<{ amount: number }>(),
  })
  stream.join(payments, ({ total }, { amount }) => total - amount, {
    name: 'open',
    beforeMs: MINUTE_MS,
    afterMs: MINUTE_MS,
    graceMs: MINUTE_MS,
  })
  return topology
}

/** The arguments of the command in the page, for another broker and topic. */
function documentedArguments(bootstrap: string, topic: string): string[] {
  const page = readFileSync(join(root, 'docs/OPERATIONS.md'), 'utf8')
  const [, command] = /^npm run kafka -- tool consoleConsumer((?:\\\n|.)*)$/m.exec(page)!
  return command!
    .replaceAll('\\\n', ' ')
    .replace('127.0.0.1:9092', bootstrap)
    .replace('analytics-revenue-changelog', topic)
    .trim()
    .split(/\s+/)
}

/** The bytes of what Kafka prints: printable ones as they are, `\xHH` the others. */
function bytesOf(text: string): Buffer {
  const units = text.replace(/\\x([0-9A-F]{2})/g, (_, hex) =>
    String.fromCharCode(`0x${hex}` as never),
  )
  return Buffer.from(units, 'latin1')
}

const timeOf = (bytes: Buffer, at = 0) => Number(bytes.readBigUInt64BE(at) ^ (1n << 63n))

describeOnKafka('a changelog on the console', kafka => {
  const application = ownName('legible')
  let running: Application

  async function printed(store: string, records: number) {
    const topic = `${application}-${store}-changelog`
    const { stdout, stderr } = await kafka.tool(toolClasses.consoleConsumer, [
      ...documentedArguments(kafka.bootstrap, topic),
      '--max-messages',
      String(records),
      '--timeout-ms',
      '60000',
    ])
    const lines = stdout.split('\n').filter(line => line !== '')
    expect(lines, stderr).toHaveLength(records)
    return lines.map(line => {
      const [key, value] = line.split('\t') as [string, string]
      return { key, value, keyBytes: bytesOf(key), valueBytes: bytesOf(value) }
    })
  }

  beforeAll(async () => {
    running = await startApplication({
      bootstrap: kafka.bootstrap,
      topology: topologyOf(application),
      settings: { createPartitions: 1 },
    })
    const { log } = running
    const target = { topic: `${application}-orders`, partition: 0 }
    // An epoch each, so that a changelog has each change.
    for (const { id, timeMs, ...value } of orders) {
      const batch = makeBatch([{ key: id, value: JSON.stringify(value), timestampMs: timeMs }])
      const transaction = log.begin()
      transaction.append(target, batch)
      const [receipt] = await transaction.commit()
      const isRead = async () => {
        const [committed] = await log.committed(application, [target])
        return (committed?.offset ?? 0) > receipt!.baseOffset
      }
      while (!(await isRead())) await sleep(20)
    }
  })
  afterAll(() => running?.stop())

  test('a JSON value of a text key is text behind the 8 bytes of its time', async () => {
    const lines = await printed('spend', 3)
    expect(lines.map(({ keyBytes }) => String(keyBytes))).toEqual(['zoë', 'bob', 'bob'])
    expect(lines.map(({ valueBytes }) => valueBytes.readDoubleBE(0))).toEqual(
      orders.map(({ timeMs }) => timeMs),
    )
    expect(lines.map(({ valueBytes }) => String(valueBytes.subarray(8)))).toEqual([
      '30',
      '12',
      '17',
    ])
  })

  test('a window is its start and the fields of its key', async () => {
    const lines = await printed('volume', 3)
    expect(lines[0]!.key).toMatch(/eu\\x00\\x01$/)
    expect(lines[0]!.value).toMatch(/\{"orders":1\}$/)
    const rows = lines.map(({ keyBytes, valueBytes }) => [
      timeOf(keyBytes),
      String(keyBytes.subarray(8)),
      String(valueBytes.subarray(8)),
    ])
    expect(rows).toEqual([
      [atMs, 'eu\x00\x01', '{"orders":1}'],
      [atMs, 'us\x00\x01', '{"orders":1}'],
      [atMs + MINUTE_MS, 'us\x00\x01', '{"orders":1}'],
    ])
  })

  test('a row of a join is the record as it came', async () => {
    const lines = await printed('open-left', 3)
    expect(lines.map(({ key }) => key)).toEqual(orders.map(({ id }) => id))
    const values = lines.map(({ valueBytes }) => JSON.parse(String(valueBytes)))
    expect(values).toEqual(orders.map(({ id: _, timeMs: __, ...value }) => value))
  })

  test('the event time of a task is a letter, a name and a number', async () => {
    const inputs = `${application}-orders.${application}-payments`
    // The steps, the three changelogs, the two exchanges, the join, and where each of the two
    // sources was begun have a row each, too.
    const lines = await printed(`event-time.${inputs}`, 12)
    const sources = lines.filter(({ key }) => key.startsWith('s'))
    const shown = sources.map(({ key, valueBytes }) => [
      key,
      valueBytes[0],
      valueBytes.readDoubleBE(1),
    ])
    expect(shown).toEqual(orders.map(({ timeMs }) => [`s${application}-orders/0`, 0, timeMs]))
  })
})
