/** The main job and its demo while the broker is away for longer than session and transaction. */
import { expect, test } from 'vitest'
import { type PlayedOutage, playOutage } from '../support/demo-outages.ts'
import { kafkaIsMissing, START_MS_MAX } from '../support/kafka/shared.ts'
import { freePort } from '../support/ports.ts'
import { millrace, scratchFolder } from '../support/service-process.ts'

/** Beyond the session timeout of 6 s and the transaction timeout of 10 s. */
const AWAY_MS = 13_000

/** Of outages in which the broker lost what it had promised. */
const TRIES_MAX = 3

test.skipIf(kafkaIsMissing !== undefined)(
  'it lives and says that it is not ready, then goes on: nothing lost or doubled',
  async () => {
    const outage = { kind: 'stopped', awayMs: AWAY_MS, rate: 0.2, events: 2_000 } as const
    let played: PlayedOutage | undefined
    for (let tries = 0; played === undefined && tries < TRIES_MAX; tries++) {
      played = await playOutage({ ...outage, beginMsMax: 120_000, log: console.error })
    }
    const { reasons, refusals, differences } = played!
    expect(differences).toEqual([])
    expect(reasons.length).toBeGreaterThan(0)
    // None has to be: a post that the outage caught may be held until the broker is back.
    const answered = refusals.filter(refusal => refusal.startsWith('{'))
    for (const refusal of answered) expect(JSON.parse(refusal)).toMatchObject({ status: 503 })
  },
  START_MS_MAX + 600_000,
)

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
