import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { analyticsTopology } from '../../../processors/analytics/analytics.ts'
import { text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { AnalyticsOracle, analyticsViews, comparedRows } from '../../support/analytics-oracle.ts'
import { demoStory, feed } from '../../support/demo-story.ts'

const hour = 3_600_000
const startMs = Date.UTC(2026, 2, 3, 6)
const endMs = startMs + 30 * hour
const partitions = 3

const story = (seed: number) => demoStory(seed, { startMs, endMs })

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

  test('quantiles of what took long and of what did not, within 1 %', () => {
    const rows = oracle.stageLatency()
    expect(new Set(rows.map(({ stage }) => stage)).size).toBe(2)
    expect(Math.max(...rows.map(({ p99 }) => Number(p99)))).toBeGreaterThan(3 * hour)
    expect(rows.some(({ final }) => final)).toBe(true)
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
