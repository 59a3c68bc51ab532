/**
 * `npm start` on Kafka with its demo and a client that posts, while its one broker is killed,
 * stopped or hangs for 30 s, again and again. It must live, say that it is not ready, go on by
 * itself, and have lost and doubled nothing: topics against the demo's own story and what was
 * acknowledged, all views against the oracle. A round is an outage.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Campaign } from '../support/campaigns.ts'
import { DemoOutages, type OutageKind, outageBroker } from '../support/demo-outages.ts'
import { startKafka } from '../support/kafka/kafka.ts'
import { Random } from '../support/random.ts'

const ROUNDS = 6
const ROUNDS_CI = 1
const AWAY_MS = 30_000
const HISTORY_MS_MAX = 300_000
const KINDS: readonly OutageKind[] = ['killed', 'stopped', 'hangs']

export const campaign: Campaign = {
  name: 'kafka-outage',
  async run({ seed, rounds, ci, log }) {
    const random = new Random(seed)
    const total = rounds ?? (ci ? ROUNDS_CI : ROUNDS)
    const kafka = await startKafka({ config: outageBroker, print: log })
    const folder = await mkdtemp(join(tmpdir(), 'millrace-kafka-outage-'))
    // Fewer events of history in CI; there are live ones at any rate.
    const outages = new DemoOutages({ kafka, dataDir: folder, rate: ci ? 0.2 : 20 })
    try {
      await outages.begin(HISTORY_MS_MAX)
      for (let round = 0; round < total; round++) {
        const kind = round < KINDS.length ? KINDS[round]! : random.pick(KINDS)
        const { noticedMs, returnedMs, reasons } = await outages.outage(kind, AWAY_MS)
        log(`${kind}: not ready after ${noticedMs} ms, ready ${returnedMs} ms after its return`)
        for (const reason of reasons) log(`  ${reason}`)
      }
      const differences = await outages.finish()
      const notes = [`${outages.refusals} posts were refused and repeated`, ...differences]
      return { passed: differences.length === 0 ? total : 0, failed: differences.length, notes }
    } finally {
      await outages.close()
      await kafka.destroy()
      await rm(folder, { recursive: true, force: true })
    }
  },
}
