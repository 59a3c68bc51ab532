/**
 * A version of the main job with another view, on the data of the version before (decision 7):
 * the view comes to what it is from scratch, and all others to what they would have.
 */
import { expect, test } from 'vitest'
import { analyticsTopology } from '../../../processors/analytics/analytics.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { Topology } from '../../../streams/topology.ts'
import type { ViewRow } from '../../../streams/views.ts'
import { AnalyticsOracle, analyticsViews, comparedRows } from '../../support/analytics-oracle.ts'
import { demoStory, feed } from '../../support/demo-story.ts'

const hour = 3_600_000
const startMs = Date.UTC(2026, 2, 3, 6)
const endMs = startMs + 30 * hour
const partitions = 3
const settings = { idleAfterMs: Number.POSITIVE_INFINITY }
const events = demoStory(21, { startMs, endMs }).filter((_, i) => i % 2 === 0)

const whole = () => analyticsTopology({ retentionMs: 60 * hour })

/** The version before: without some views, and the steps that only they need. */
function without(added: readonly string[]): Topology {
  const { application, nodes, views } = whole()
  const kept = views.filter(({ declaration }) => !added.includes(declaration.name))
  const needed = new Set(kept.map(({ node }) => node))
  for (const { id, parents } of nodes.toReversed()) {
    if (needed.has(id)) for (const { node } of parents) needed.add(node)
  }
  const before = new Topology(application)
  const ids = new Map<number, number>()
  for (const node of nodes.filter(({ id }) => needed.has(id))) {
    const parents = node.parents.map(edge => ({ ...edge, node: ids.get(edge.node)! }))
    ids.set(node.id, before.add({ ...node, parents }))
  }
  before.views.push(...kept.map(view => ({ ...view, node: ids.get(view.node)! })))
  return before
}

let fromScratch: Promise<ViewRow[]> | undefined

/** Rows of `order-status`, which has an oracle of its own, from scratch. */
function statuses(): Promise<ViewRow[]> {
  fromScratch ??= (async () => {
    const driver = await TopologyTestDriver.open(whole(), { partitions, startMs: endMs, settings })
    await feed(driver, events)
    const rows = await driver.rows('order-status')
    await driver.close()
    return rows
  })()
  return fromScratch
}

const cases: (readonly [string, readonly string[]])[] = [
  ['order-funnel and stage-latency', ['order-funnel', 'stage-latency']],
  ...whole().views.map(({ declaration: { name } }) => [name, [name]] as const),
]

test.each(cases)('%s, added while the job runs', async (_, added) => {
  const topology = without(added)
  const options = { partitions, startMs: endMs, settings }
  const before = await TopologyTestDriver.open(topology, options)
  const topics = new Set(
    topology.nodes.flatMap(node => (node.kind === 'source' ? [node.topic] : [])),
  )
  expect(topology.views.length).toBe(whole().views.length - added.length)
  const half = Math.floor(events.length / 2)
  const early = events.slice(0, half)
  await feed(
    before,
    early.filter(({ topic }) => topics.has(topic)),
  )
  await before.close()
  const { database } = before
  const after = await TopologyTestDriver.open(whole(), { ...options, database })
  // Nobody has read the others yet.
  await feed(
    after,
    early.filter(({ topic }) => !topics.has(topic)),
  )
  await feed(after, events.slice(half))
  const oracle = new AnalyticsOracle(events, partitions)
  for (const [view, expected] of analyticsViews) {
    const rows = expected(oracle)
    expect(comparedRows(await after.rows(view)), view).toEqual(comparedRows(rows))
    if (view !== 'alerts') expect(rows.length, view).toBeGreaterThan(0)
  }
  expect(await after.rows('order-status')).toEqual(await statuses())
  await after.close()
})
