/**
 * A million rows that wait for a partner are closed by one record of a year later: how much of
 * that is in memory at once, and in one epoch, is counted (law 13). Rounds are 100,000 rows.
 */
import { json, Topology, text, textKey } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import type { Campaign } from '../support/campaigns.ts'

const DAY = 24 * 60 * 60 * 1000
const ROWS_A_ROUND = 100_000
const APPENDED_AT_ONCE = 20_000
const ROWS_A_STEP = 10_000
const lines = { key: textKey(), value: text() }

function unpaired(): Topology {
  const topology = new Topology('large')
  const left = topology.stream('left', { key: textKey(), value: json<number>() })
  const right = topology.stream('right', { key: textKey(), value: json<number>() })
  left
    .leftJoin(right, (l, r) => `${l} ${r}`, {
      name: 'pairs',
      beforeMs: 1000,
      afterMs: 1000,
      graceMs: 0,
    })
    .to('out', lines)
  return topology
}

interface Counted {
  epochs: number
  overlayMax: number
  sentMax: number
  sent: number
}

async function close(rows: number): Promise<Counted> {
  const counted: Counted = { epochs: 0, overlayMax: 0, sentMax: 0, sent: 0 }
  const reached = (point: string) => {
    if (point !== 'run') return
    const { stores, sinks } = driver.engine.assembly
    const pending = stores.filter(({ name }) => name.endsWith('-pending'))
    for (const { metrics } of pending) {
      counted.overlayMax = Math.max(counted.overlayMax, metrics.overlayRows)
    }
    counted.sentMax = Math.max(counted.sentMax, sinks.recordsWritten - counted.sent)
    counted.sent = sinks.recordsWritten
    counted.epochs++
  }
  const driver = await TopologyTestDriver.open(unpaired(), { startMs: 400 * DAY, reached })
  for (let from = 0; from < rows; from += APPENDED_AT_ONCE) {
    const events = Array.from({ length: APPENDED_AT_ONCE }, (_, i) => {
      return { key: `k${from + i}`, value: 1, timeMs: 1000 + (i % 7) }
    })
    await driver.append('left', events)
    await driver.process()
  }
  Object.assign(counted, { epochs: 0, overlayMax: 0, sentMax: 0 })
  for (const topic of ['left', 'right']) {
    await driver.append(topic, [{ key: 'end', value: 1, timeMs: 300 * DAY }])
  }
  await driver.process()
  await driver.close()
  return counted
}

export const campaign: Campaign = {
  name: 'large-close',
  async run({ rounds, ci, log }) {
    const rows = (rounds ?? (ci ? 1 : 10)) * ROWS_A_ROUND
    const { epochs, overlayMax, sentMax, sent } = await close(rows)
    log(`${rows} rows: ${epochs} epochs, at most ${sentMax} results and ${overlayMax} rows in one`)
    const notes: string[] = []
    const check = (holds: boolean, note: string) => holds || notes.push(note)
    // The last two records join each other.
    check(sent === rows + 1, `${sent} results instead of ${rows + 1}`)
    check(epochs >= rows / ROWS_A_STEP, `only ${epochs} epochs`)
    check(overlayMax <= ROWS_A_STEP + 2, `${overlayMax} rows were in memory at once`)
    check(sentMax <= ROWS_A_STEP + 2, `${sentMax} results in one epoch`)
    return { passed: 4 - notes.length, failed: notes.length, notes }
  },
}
