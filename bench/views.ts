/**
 * `views`: the demo's events, an import's worth, through all analytics views as a backlog:
 * appended first, then processed from the beginning. The digest of all rows tells whether two
 * runs, of two versions even, had the same results.
 */
import { createHash } from 'node:crypto'
import { EventAppender } from '../cli/event-appender.ts'
import { eventRecord } from '../contracts/event-record.ts'
import { inputPartitions, inputTopics } from '../contracts/topics.ts'
import { analyticsTopology } from '../processors/analytics/analytics.ts'
import { DemoWorld } from '../processors/demo/world.ts'
import { Engine } from '../streams/engine.ts'
import { viewService } from '../streams/view-service.ts'
import type { ViewService } from '../streams/views.ts'
import { type Bed, environment, withBed } from './environment.ts'
import { type Figure, measured } from './report.ts'
import { setting } from './settings.ts'

const EVENTS = setting('BENCH_EVENTS', 300_000)
const RATE = 20
const START_MS = Date.UTC(2026, 2, 3, 8)
const MINUTE_MS = 60_000

/** Appends the first events of the demo. */
async function produce({ log }: Bed): Promise<number> {
  for (const topic of inputTopics) await log.createTopic(topic, inputPartitions)
  const appender = await EventAppender.open(log)
  const world = new DemoWorld({ seed: 1, startMs: START_MS, ratePerSecond: RATE })
  let produced = 0
  for (let toMs = START_MS; produced < EVENTS; ) {
    toMs += MINUTE_MS
    const records = world
      .advance(toMs)
      .slice(0, EVENTS - produced)
      .map(({ event, ceId }) => eventRecord(event, { id: ceId, source: 'bench' }))
    if (records.length > 0) await appender.append(records)
    produced += records.length
  }
  return produced
}

/** Of all rows of all views, as they are served. */
async function digestOf(views: ViewService): Promise<{ rows: number; digest: string }> {
  const hash = createHash('sha256')
  let rows = 0
  for (const { name } of views.views()) {
    for (let cursor: string | undefined; ; ) {
      const page = await views.rows(name, { key: {}, limit: 1000, ...(cursor && { cursor }) })
      for (const row of page.rows) hash.update(`${name} ${JSON.stringify(row)}\n`)
      rows += page.rows.length
      if (page.next === null) break
      cursor = page.next
    }
  }
  return { rows, digest: hash.digest('hex').slice(0, 12) }
}

export async function viewsBench(): Promise<Figure[]> {
  const figures: Figure[] = []
  await withBed(async bed => {
    const { log, database } = bed
    process.stderr.write(`views: producing ${EVENTS} events\n`)
    const events = await produce(bed)
    const engine = await Engine.open({
      topology: analyticsTopology({ retentionMs: Number.POSITIVE_INFINITY }),
      log,
      database,
      environment,
      settings: { idleAfterMs: Number.POSITIVE_INFINITY },
    })
    process.stderr.write(`views: processing ${events} events\n`)
    const run = await measured(() => engine.drain())
    const { schedule } = environment
    const views = viewService({ engine, schedule, incarnation: log.incarnation })
    const { rows, digest } = await digestOf(views)
    process.stderr.write(`views: ${rows} rows, digest ${digest}\n`)
    figures.push(
      { name: 'eventsPerSecond', value: (events / run.ms) * 1000, unit: 'events/s' },
      { name: 'cpuPerEvent', value: run.cpuUs / events, unit: 'µs/event' },
      { name: 'rssMiB', value: process.memoryUsage.rss() / 2 ** 20, unit: 'MiB at the end' },
      { name: 'epochs', value: engine.epochs, unit: 'epochs' },
      { name: 'rows', value: rows, unit: 'rows' },
    )
    await engine.stop()
  })
  return figures
}
