/**
 * `npm start` on Kafka with its demo and a client that posts, while its one broker is stopped,
 * hangs or is killed for 30 s. It must live, say that it is not ready, go on by itself, and have
 * lost and doubled nothing: topics against the demo's own story and what was acknowledged, all
 * views against the oracle. A round is an outage of a broker of its own; one whose broker lost
 * markers of transactions (see `KafkaNode`) is told and another one takes its place.
 */
import type { Campaign } from '../support/campaigns.ts'
import { type OutageKind, playOutage } from '../support/demo-outages.ts'

const ROUNDS = 6
const ROUNDS_CI = 1
/** Rounds that do not count. */
const SPOILED_MAX = 4
const AWAY_MS = 30_000
const RATE = 20
const EVENTS = 5_000
const BEGIN_MS_MAX = 300_000
const KINDS: readonly OutageKind[] = ['stopped', 'hangs', 'killed']

/** What differs at the end; undefined where the round does not count. */
async function play(
  kind: OutageKind,
  log: (line: string) => void,
): Promise<readonly string[] | undefined> {
  const outage = { kind, awayMs: AWAY_MS, rate: RATE, events: EVENTS, beginMsMax: BEGIN_MS_MAX }
  const played = await playOutage({ ...outage, log })
  if (played === undefined) return undefined
  const { noticedMs, returnedMs, reasons, refusals, differences } = played
  log(`${kind}: not ready after ${noticedMs} ms, ready ${returnedMs} ms after its return`)
  for (const reason of reasons) log(`  ${reason.slice(0, 200)}`)
  log(`  ${refusals.length} posts refused and repeated; ${differences.join('; ') || 'equal'}`)
  return differences
}

export const campaign: Campaign = {
  name: 'kafka-outage',
  async run({ rounds, ci, log }) {
    const total = rounds ?? (ci ? ROUNDS_CI : ROUNDS)
    const notes: string[] = []
    let passed = 0
    let failed = 0
    let spoiled = 0
    while (passed + failed < total && spoiled < SPOILED_MAX) {
      const kind = KINDS[(passed + failed) % KINDS.length]!
      const differences = await play(kind, log)
      if (differences === undefined) {
        spoiled++
        notes.push(`${kind}: the broker lost markers, not counted`)
      } else if (differences.length === 0) passed++
      else {
        failed++
        notes.push(`${kind}: ${differences.join('; ')}`)
      }
    }
    return { passed, failed, notes }
  },
}
