/** Poison and its replay while the service is killed again and again: each record once. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, test } from 'vitest'
import { writeRawRecords } from '../support/poisoned-log.ts'
import { Random } from '../support/random.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'

const environment = { IDLE_AFTER: 'never', LOG_LEVEL: 'warn', VIEW_RETENTION: 'forever' }
const RECORDS = 400
const ROUNDS = 8
const TEST_MS = 300_000

const folder = await scratchFolder()
let service: ServiceProcess | undefined
afterAll(async () => {
  await service?.kill()
  await folder.remove()
})

interface Listed {
  readonly id: string
  readonly state: string
  readonly valueBase64: string
}

async function start(): Promise<ServiceProcess> {
  service = await ServiceProcess.start(folder.path, ['--no-demo'], environment)
  return service
}

/** How often each value was put aside, by the state of its letters. */
async function values(search: string): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  for (let cursor = ''; ; ) {
    const page = await service!.get<{ deadLetters: Listed[]; next: string | null }>(
      `/v1/dead-letters?limit=1000&${search}${cursor}`,
    )
    for (const { valueBase64 } of page.deadLetters) {
      const value = Buffer.from(valueBase64, 'base64').toString()
      found.set(value, (found.get(value) ?? 0) + 1)
    }
    if (page.next === null) return found
    cursor = `&cursor=${page.next}`
  }
}

const once = (count: number) =>
  new Map(Array.from({ length: RECORDS }, (_, i) => [`no event ${i}`, count] as const))
const sorted = (found: Map<string, number>) => [...found].sort()

/** Asks for replays, a few at a time, until the process is gone. */
async function replaying(url: string, toMs: number): Promise<void> {
  for (;;) {
    const search = `to=${toMs}&limit=15`
    const response = await fetch(`${url}/v1/dead-letters/replay?${search}`, { method: 'POST' })
    const { results } = (await response.json()) as { results?: unknown[] }
    if (results?.length === 0) return
  }
}

test(
  'poison is put aside once through kills, and each letter is replayed once through kills',
  async () => {
    const random = new Random(7)
    const records = Array.from({ length: RECORDS }, (_, i) => ({
      key: Buffer.from(`k${i % 5}`),
      value: Buffer.from(`no event ${i}`),
      timestamp: Date.UTC(2026, 0, 5) + i,
    }))
    await writeRawRecords(folder.path, 'orders', records)
    for (let round = 0; round < 3; round++) {
      await start()
      await sleep(random.below(60))
      await service!.kill()
    }
    await start()
    await expect.poll(async () => (await values('state=all')).size).toBe(RECORDS)
    expect(sorted(await values('state=all'))).toEqual(sorted(once(1)))
    const toMs = Date.now()
    for (let round = 0; round < ROUNDS; round++) {
      const ended = replaying(service!.url, toMs).catch(() => {})
      await sleep(20 + random.below(120))
      await service!.kill()
      await ended
      await start()
    }
    await replaying(service!.url, toMs)
    expect(sorted(await values(`state=replayed&to=${toMs}`))).toEqual(sorted(once(1)))
    // None of them is an event now either: each record that went back is a letter of its own.
    const again = async () => sorted(await values(`state=all&from=${toMs}`))
    await expect.poll(again).toEqual(sorted(once(1)))
  },
  TEST_MS,
)
