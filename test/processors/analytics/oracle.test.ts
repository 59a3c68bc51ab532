import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { analyticsTopology } from '../../../processors/analytics/analytics.ts'
import type { GeneratedEvent } from '../../../processors/demo/order-story.ts'
import { DemoWorld } from '../../../processors/demo/world.ts'
import { text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { AnalyticsOracle, analyticsViews, comparedRows } from '../../support/analytics-oracle.ts'

const hour = 3_600_000
const startMs = Date.UTC(2026, 2, 3, 6)
const endMs = startMs + 30 * hour
const partitions = 3

/** The demo's events, some of them much too late. */
function story(seed: number): GeneratedEvent[] {
  const world = new DemoWorld({ seed, startMs, ratePerSecond: 0.08 })
  const events = world.advance(endMs)
  const delayed: GeneratedEvent[] = []
  const usual: GeneratedEvent[] = []
  events.forEach((event, i) => {
    if (i % 97 === 5) delayed.push({ ...event, emittedAtMs: event.emittedAtMs + (i % 40) * 60_000 })
    else usual.push(event)
  })
  return [...usual, ...delayed].sort((a, b) => a.emittedAtMs - b.emittedAtMs)
}

const recordOf = ({ event, key, eventTimeMs, ceId }: GeneratedEvent) => ({
  key,
  value: event,
  timeMs: eventTimeMs,
  headers: { ce_id: ceId },
})

async function feed(driver: TopologyTestDriver, events: readonly GeneratedEvent[]): Promise<void> {
  for (const topic of ['orders', 'payments']) {
    await driver.append(topic, events.filter(event => event.topic === topic).map(recordOf))
  }
  await driver.process()
}

const open = () =>
  TopologyTestDriver.open(analyticsTopology({ retentionMs: 60 * hour }), {
    partitions,
    startMs: endMs,
  })

describe('the views show what the events say (seed 11)', () => {
  const events = story(11)
  const oracle = new AnalyticsOracle(events, partitions)
  let driver: TopologyTestDriver

  beforeAll(async () => {
    driver = await open()
    await feed(driver, events)
  })
  afterAll(() => driver.close())

  test.each(analyticsViews)('%s', async (view, expected) => {
    const rows = expected(oracle)
    expect(rows.length).toBeGreaterThan(0)
    expect(comparedRows(await driver.rows(view))).toEqual(comparedRows(rows))
  })

  test('each rule has raised an alert', async () => {
    const rules = new Set((await driver.rows('alerts')).map(({ rule }) => rule))
    expect([...rules].sort()).toEqual([
      'authorization-rate',
      'payment-attempts',
      'revenue-deviation',
    ])
  })

  test('copies of events are put aside, each once', async () => {
    const serdes = { key: textKey(), value: text() }
    const dead = await driver.output('analytics-dead-letters', serdes)
    const duplicates = dead.filter(({ headers }) => headers.dl_reason === 'duplicate')
    expect(oracle.duplicates).toBeGreaterThan(0)
    expect(duplicates.length).toBe(oracle.duplicates)
  })
})

test('the views are the same when the events come in pieces, across a restart', async () => {
  const events = story(12).slice(0, 4000)
  const whole = await open()
  await feed(whole, events)
  let pieces = await open()
  for (let i = 0; i < events.length; i += 500) {
    await feed(pieces, events.slice(i, i + 700))
    if (i !== 2000) continue
    await pieces.close()
    pieces = await TopologyTestDriver.open(analyticsTopology({ retentionMs: 60 * hour }), {
      partitions,
      startMs: endMs,
      database: pieces.database,
    })
  }
  for (const [view] of analyticsViews) {
    expect(comparedRows(await pieces.rows(view)), view).toEqual(
      comparedRows(await whole.rows(view)),
    )
  }
  await whole.close()
  await pieces.close()
})
