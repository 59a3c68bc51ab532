import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { json, Topology, textKey, tumbling } from '../../streams/index.ts'
import { resetApplication } from '../../streams/reset.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

function counts(sizeMs: number): Topology {
  const topology = new Topology('counts')
  const serdes = { key: textKey(), value: json<number>() }
  const events = topology.stream('events', serdes)
  const within = { name: 'pairs', beforeMs: 10, afterMs: 10, graceMs: 0 }
  events.join(topology.stream('others', serdes), a => a, within).to('pairs', serdes)
  events
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(sizeMs, { graceMs: 0 }))
    .count({ name: 'counts', retentionMs: 100_000 })
    .view({
      name: 'counts',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  return topology
}

test('after a reset another topology starts from the beginning of the input', async () => {
  const first = await TopologyTestDriver.open(counts(1000))
  const event = (timeMs: number) => ({ key: 'k', value: 1, timeMs })
  await first.pipe('events', event(1), event(1500), event(3000))
  const { database, log } = first
  const options = { application: 'counts', inputs: ['events', 'others'], database, log }
  await first.engine.stop()
  const planned = await resetApplication({ ...options, dryRun: true })
  expect(planned.topics).toContain('counts-counts-changelog')
  expect(planned.partitions).toBe(2)
  expect(await resetApplication(options)).toEqual(planned)
  await log.close()
  const again = await TopologyTestDriver.open(counts(2000), { database })
  await again.process()
  expect(await again.rows('counts')).toMatchObject([{ count: 2 }, { count: 1 }])
  await again.close()
  expect(database.openHandles).toBe(0)
})
