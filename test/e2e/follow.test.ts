/** A live client across kills of the service: faults 57 and 58. */
import { afterEach, expect, test } from 'vitest'
import { connectLive } from '../../client/index.ts'
import { eventLines } from '../support/order-lines.ts'
import { keepablePort } from '../support/ports.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'

const startMs = Date.UTC(2026, 0, 5)
const closing: (() => unknown)[] = []

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

interface Volume {
  readonly region: string
  readonly windowStart: number
  readonly orders: number
}

const identity = ({ region, windowStart }: Volume) => `${region} ${windowStart}`
const text = (rows: Iterable<Volume>) =>
  [...rows].map(row => `${identity(row)}: ${row.orders}`).sort()

/** Asks again and again, while the service starts and stops: whole, refused, or none. */
function pollRows(url: string) {
  const answers: string[] = []
  let polling = true
  const ask = async () => {
    const response = await fetch(url)
    const body = (await response.json()) as { rows?: Volume[]; code?: string }
    if (response.ok) return text(body.rows!).join()
    return `${response.status} ${response.headers.get('retry-after')} ${body.code}`
  }
  const run = async () => {
    while (polling) {
      answers.push(await ask().catch(() => 'none'))
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    return answers
  }
  const running = run()
  return {
    stop: () => {
      polling = false
      return running
    },
  }
}

test('after every kill a client has what the service has: no gap, nothing twice', async () => {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  const port = String(await keepablePort())
  const start = async () => {
    const service = await ServiceProcess.start(path, ['--no-demo'], { PORT: port })
    closing.push(() => service.kill())
    return service
  }
  let service = await start()
  const connection = connectLive(`${service.url}/v1/live`, {
    WebSocket: globalThis.WebSocket,
    schedule: (run, delayMs) => {
      const timer = setTimeout(run, delayMs)
      return () => clearTimeout(timer)
    },
    random: () => 0.5,
    backoffMs: [10, 100],
  })
  closing.push(() => connection.close())
  const highest = new Map<string, number>()
  const lost: string[] = []
  const subscription = connection.subscribe<Volume>(
    { view: 'order-volume' },
    {
      onRows: () => {
        for (const row of subscription.rows.values()) {
          const before = highest.get(identity(row)) ?? 0
          if (row.orders < before) lost.push(`${identity(row)}: ${before} became ${row.orders}`)
          highest.set(identity(row), row.orders)
        }
        if (subscription.rows.size < highest.size) lost.push('a row is gone')
      },
    },
  )
  const poll = pollRows(`http://127.0.0.1:${port}/v1/views/order-volume/rows?limit=1000`)
  const rounds = 5
  for (let round = 0; round < rounds; round++) {
    await service.post(eventLines(round * 100, round * 100 + 100, startMs))
    // In the middle of publishing, as often as not.
    await new Promise(resolve => setTimeout(resolve, round * 7))
    await service.kill()
    service = await start()
  }
  const position = await service.post(eventLines(rounds * 100, rounds * 100 + 50, startMs))
  const rows = text((await service.rows('order-volume', position)) as unknown as Volume[])
  await expect.poll(() => text(subscription.rows.values()), { timeout: 60_000 }).toEqual(rows)
  const answers = await poll.stop()
  expect(lost).toEqual([])
  const orders = (answer: string) =>
    [...answer.matchAll(/: (\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0)
  const counts = answers.filter(answer => answer === '' || answer.includes(': ')).map(orders)
  expect(counts.length).toBeGreaterThan(rounds)
  // What was once shown is committed: no later answer has less, or a part of it.
  expect(counts).toEqual([...counts].sort((a, b) => a - b))
  const refusals = new Set(answers.filter(answer => /^\d/.test(answer)))
  for (const refusal of refusals) expect(refusal).toBe('503 1 VIEW_NOT_READY')
}, 240_000)
