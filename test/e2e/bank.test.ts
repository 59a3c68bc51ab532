/**
 * The bank test of internal consistency: transfers are aggregated twice, by sender and by
 * receiver, and the two tables joined into balances. Every transfer takes from one account what
 * it gives to another, so at any cut of the input the balances add up to 0: in every answer and
 * after every frame. After jamie Brandon, "Internal consistency in streaming systems".
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createServer } from '../../api/index.ts'
import type { ServerMessage } from '../../contracts/live.ts'
import { type EmbeddedLog, openEmbeddedLog } from '../../log/embedded/index.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { Engine, json, Topology, textKey, viewService } from '../../streams/index.ts'
import { Random } from '../support/random.ts'

const TRANSFERS = 100_000
const ACCOUNTS = 400
const PARTITIONS = 4

interface Transfer {
  from: string
  to: string
  amount: number
}

const environment = {
  clock: Date.now,
  schedule(task: () => void, delayMs: number) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
}

function bank(): Topology {
  const topology = new Topology('bank')
  const transfers = topology.stream('transfers', { key: textKey(), value: json<Transfer>() })
  const account = textKey('account')
  const total = (name: 'from' | 'to', store: string) =>
    transfers
      .groupBy(transfer => transfer[name], { name: `by-${name}`, key: account })
      .aggregate<number>({
        name: store,
        initial: () => 0,
        add: (sum, { amount }) => sum + amount,
      })
  total('to', 'credits')
    .outerJoin(total('from', 'debits'), (credit, debit) => (credit ?? 0) - (debit ?? 0), {
      name: 'balances',
    })
    .view({
      name: 'balances',
      description: 'Balance of each account',
      value: { balance: Type.Integer() },
      row: balance => ({ balance }),
    })
  return topology
}

async function produce(log: EmbeddedLog, balances: Map<string, number>): Promise<void> {
  const random = new Random(11)
  const add = (account: string, amount: number) =>
    balances.set(account, (balances.get(account) ?? 0) + amount)
  for (let i = 0; i < TRANSFERS; ) {
    const transaction = log.begin()
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const builder = new RecordBatchBuilder()
      for (let n = random.below(120); n >= 0 && i < TRANSFERS; n--, i++) {
        const amount = 1 + random.below(500)
        const from = `account-${random.below(ACCOUNTS)}`
        const to = `account-${random.below(ACCOUNTS)}`
        add(from, -amount)
        add(to, amount)
        const key = Buffer.from(`transfer-${i}`)
        const value = Buffer.from(JSON.stringify({ from, to, amount }))
        const slice = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
        builder.append(1_000_000 + i - random.below(10_000), slice(key), slice(value))
      }
      if (builder.count > 0) transaction.append({ topic: 'transfers', partition }, builder.finish())
    }
    await transaction.commit()
    await environment.yieldNow()
  }
}

interface BalanceRow {
  account: string
  balance: number
}

const totalOf = (rows: Iterable<number>) => [...rows].reduce((sum, balance) => sum + balance, 0)

/** Follows the view; returns the totals after each frame and the balances as followed. */
function follow(url: string) {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/live`, 'millrace.v1')
  const balances = new Map<string, number>()
  const totals: number[] = []
  let frames = 0
  socket.on('open', () => {
    socket.send(JSON.stringify({ type: 'connection_init' }))
  })
  socket.on('message', data => {
    const message = JSON.parse(String(data)) as ServerMessage
    if (message.type === 'connection_ack') {
      socket.send(JSON.stringify({ type: 'subscribe', id: '1', view: 'balances' }))
    } else if (message.type === 'ping') socket.send(JSON.stringify({ type: 'pong' }))
    else if (message.type === 'must-refetch') balances.clear()
    else if (message.type === 'snapshot') {
      for (const row of message.rows as unknown as BalanceRow[])
        balances.set(row.account, row.balance)
    } else if (message.type === 'up-to-date') totals.push(totalOf(balances.values()))
    else if (message.type === 'delta') {
      frames++
      for (const { row } of message.changes as unknown as { row: BalanceRow }[]) {
        balances.set(row.account, row.balance)
      }
      totals.push(totalOf(balances.values()))
    }
  })
  return { socket, balances, totals, frames: () => frames }
}

test('the total of all balances is 0 in every answer and after every frame', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-bank-'))
  const database = await openRocksDB(directory)
  const log = await openEmbeddedLog(database, environment)
  await log.createTopic('transfers', PARTITIONS)
  const settings = { epochMsMax: 20 }
  const engine = await Engine.open({ topology: bank(), log, database, environment, settings })
  const { incarnation } = log
  const views = viewService({ engine, schedule: environment.schedule, incarnation })
  const server = await createServer({
    views,
    append: () => Promise.reject(new Error('nothing is appended over HTTP here')),
    clock: Date.now,
    schedule: environment.schedule,
    ids: () => randomBytes(8).toString('hex'),
    version: 'test',
    deadLetters: async () => [],
    topology: () => ({}),
  } as never)
  const url = await server.listen({ host: '127.0.0.1', port: 0 })
  const running = engine.run()
  const follower = follow(url)
  const expected = new Map<string, number>()
  let producing = true
  const answers: number[] = []
  const poll = async () => {
    while (producing) {
      const response = await fetch(`${url}/v1/views/balances/rows?limit=1000`)
      const { rows } = (await response.json()) as { rows: BalanceRow[] }
      if (rows.length > 0) answers.push(totalOf(rows.map(({ balance }) => balance)))
    }
  }
  const polling = Promise.all([poll(), poll()])
  try {
    await produce(log, expected)
    const ends = await log.offsets(
      Array.from({ length: PARTITIONS }, (_, partition) => ({ topic: 'transfers', partition })),
    )
    const offsets = { transfers: ends.map(({ endOffset }) => endOffset) }
    const token = Buffer.from(JSON.stringify([incarnation, offsets])).toString('base64url')
    expect(await views.waitFor(token, 120_000)).toBe(true)
    producing = false
    await polling
    const { rows } = await views.rows('balances', { key: {}, limit: 1000 })
    const final = new Map(rows.map(row => [row.account, row.balance]))
    expect(final).toEqual(new Map([...expected].sort(([a], [b]) => (a < b ? -1 : 1))))
    await expect
      .poll(() => new Map([...follower.balances].sort()))
      .toEqual(new Map([...final].sort()))
    expect(answers.length).toBeGreaterThan(10)
    expect(follower.frames()).toBeGreaterThan(10)
    expect(answers.filter(total => total !== 0)).toEqual([])
    expect(follower.totals.filter(total => total !== 0)).toEqual([])
  } finally {
    producing = false
    follower.socket.terminate()
    await server.close()
    await engine.stop()
    await running
    await log.close()
    await database.close()
    await rm(directory, { recursive: true, force: true })
  }
})
