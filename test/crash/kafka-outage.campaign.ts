/**
 * `npm start` on Kafka with its demo and a client that posts, while its one broker is stopped,
 * hangs or is killed for 30 s. It must live, say that it is not ready, go on by itself, and have
 * lost and doubled nothing: topics against the demo's own story and what was acknowledged, all
 * views against the oracle. A round is an outage of a broker of its own; one whose broker lost
 * markers of transactions (see `KafkaNode`) is told and does not count.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Campaign } from '../support/campaigns.ts'
import { DemoOutages, type OutageKind, outageBroker } from '../support/demo-outages.ts'
import { startKafka } from '../support/kafka/kafka.ts'

const ROUNDS = 6
const ROUNDS_CI = 1
const AWAY_MS = 30_000
const RATE = 20
const EVENTS = 5_000
const BEGIN_MS_MAX = 300_000
const KINDS: readonly OutageKind[] = ['stopped', 'hangs', 'killed']

type Log = (line: string) => void

/** What differs at the end; undefined where the broker was not one. */
async function playOutage(kind: OutageKind, log: Log): Promise<readonly string[] | undefined> {
  const kafka = await startKafka({ config: outageBroker, print: log })
  const folder = await mkdtemp(join(tmpdir(), 'millrace-kafka-outage-'))
  const outages = new DemoOutages({ kafka, dataDir: folder, rate: RATE })
  try {
    await outages.begin(EVENTS, BEGIN_MS_MAX)
    const { noticedMs, returnedMs, reasons } = await outages.outage(kind, AWAY_MS)
    log(`${kind}: not ready after ${noticedMs} ms, ready ${returnedMs} ms after its return`)
    for (const reason of reasons) log(`  ${reason.slice(0, 200)}`)
    if (kafka.hasLostMarkers('')) return undefined
    const differences = await outages.finish()
    log(`  ${outages.refusals} posts refused and repeated; ${differences.join('; ') || 'equal'}`)
    return differences
  } finally {
    await outages.close()
    await kafka.destroy()
    await rm(folder, { recursive: true, force: true })
  }
}

export const campaign: Campaign = {
  name: 'kafka-outage',
  async run({ rounds, ci, log }) {
    const total = rounds ?? (ci ? ROUNDS_CI : ROUNDS)
    const notes: string[] = []
    let passed = 0
    let failed = 0
    for (let round = 0; round < total; round++) {
      const kind = KINDS[round % KINDS.length]!
      const differences = await playOutage(kind, log)
      if (differences === undefined) notes.push(`${kind}: the broker lost markers, not counted`)
      else if (differences.length === 0) passed++
      else {
        failed++
        notes.push(`${kind}: ${differences.join('; ')}`)
      }
    }
    return { passed, failed, notes }
  },
}
