/** The main job and its demo while the broker is away for longer than session and transaction. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DemoOutages, outageBroker } from '../support/demo-outages.ts'
import { type KafkaUnderTest, startKafka } from '../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../support/kafka/shared.ts'
import { freePort } from '../support/ports.ts'
import { millrace, scratchFolder } from '../support/service-process.ts'

/** Beyond the session timeout of 6 s and the transaction timeout of 10 s. */
const AWAY_MS = 13_000

describe.skipIf(kafkaIsMissing !== undefined)('without a broker', () => {
  let kafka: KafkaUnderTest
  let outages: DemoOutages
  let folder: Awaited<ReturnType<typeof scratchFolder>>

  beforeAll(async () => {
    kafka = await startKafka({ config: outageBroker })
    folder = await scratchFolder()
    outages = new DemoOutages({ kafka, dataDir: folder.path, rate: 0.2 })
  }, START_MS_MAX)

  afterAll(async () => {
    await outages?.close()
    await kafka?.destroy()
    await folder?.remove()
  })

  test('it lives and says that it is not ready, then goes on: nothing lost or doubled', async () => {
    await outages.begin(2_000, 60_000)
    const { reasons } = await outages.outage('stopped', AWAY_MS)
    expect(reasons.length).toBeGreaterThan(0)
    expect(outages.refusals).toBeGreaterThan(0)
    expect(await outages.finish()).toEqual([])
  }, 240_000)
})

test('without a broker at the start it says which one gave no answer, and exits with 1', async () => {
  const broker = `127.0.0.1:${await freePort()}`
  const { path, remove } = await scratchFolder()
  try {
    const flags = ['--no-demo', '--port', '0', '--data-dir', path]
    const { code, output } = await millrace(['start', ...flags], { MILLRACE_BROKERS: broker })
    expect(code).toBe(1)
    expect(output).toContain(`millrace: Broker ${broker} gave no answer`)
  } finally {
    await remove()
  }
})
