import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey, tumbling } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const MINUTE = 60_000
const serdes = { key: textKey(), value: text() }

/** One-minute finals, grace 10 min, summed into one-hour windows with no grace at all (law 8). */
function minutesIntoHours(): Topology {
  const topology = new Topology('chain')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(MINUTE, { graceMs: 10 * MINUTE }))
    .count({ name: 'minutes', emit: 'close' })
    .toStream()
    .map((count, windowed): [string, number] => [windowed.key, count])
    .groupByKey({ name: 'again', key: textKey() })
    .windowedBy(tumbling(60 * MINUTE, { graceMs: 0 }))
    .aggregate<number>({ name: 'hours', initial: () => 0, add: (sum, n) => sum + n, emit: 'close' })
    .toStream()
    .map((sum, { key, windowStart }): [string, string] => [key, `${windowStart / MINUTE}=${sum}`])
    .to('hours', serdes)
  return topology
}

test('finals of minutes reach the hour that they belong to, though they come after its end', async () => {
  const driver = await TopologyTestDriver.open(minutesIntoHours(), { partitions: 2 })
  open.push(driver)
  const at = (minute: number, partition: number) => ({
    key: 'k',
    value: 1,
    timeMs: minute * MINUTE,
    partition,
  })
  for (let minute = 0; minute < 80; minute++) {
    await driver.pipe('events', at(minute, 0), at(minute, 1))
  }
  await driver.pipe('events', at(200, 0), at(200, 1))
  await driver.pipe('events', at(400, 0), at(400, 1))
  const lines = (await driver.output('hours', serdes)).map(({ value }) => value)
  expect(lines).toEqual(['0=120', '60=40', '180=2'])
  const dropped = driver.views.metrics().filter(({ name }) => name === 'dropped_records_total')
  expect(dropped).toEqual([])
})

test('a time-dependent step below emit-on-update results is refused', async () => {
  const topology = new Topology('chain')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(MINUTE, { graceMs: 0 }))
    .count({ name: 'minutes' })
    .toStream()
    .groupBy(() => 'all', { name: 'all', key: textKey() })
    .windowedBy(tumbling(60 * MINUTE, { graceMs: 0 }))
    .count({ name: 'hours' })
  await expect(TopologyTestDriver.open(topology)).rejects.toThrow(
    /hours decides by event time but is fed with the updates of minutes/,
  )
})
