/** Who follows a view gets every change, also those that no new input caused. */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { json, Topology, textKey, tumbling } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

function counts(): Topology {
  const topology = new Topology('counts')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .groupBy((_, key) => key, { name: 'by-key', key: textKey() })
    .windowedBy(tumbling(1000, { graceMs: 0 }))
    .count({ name: 'counts', retentionMs: 1e9 })
    .view({
      name: 'counts',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  return topology
}

const event = (timeMs: number, partition = 0) => ({ key: 'k', value: 1, timeMs, partition })

test('a window that closes because its input fell idle is told, at the same position', async () => {
  const settings = { idleAfterMs: 1000 }
  const driver = await TopologyTestDriver.open(counts(), { partitions: 2, settings })
  await driver.pipe('events', event(10, 0), event(1500, 1))
  await driver.advanceWallClock(900)
  // Its partition was read to its end later than the other.
  await driver.pipe('events', event(1600, 1))
  const seen: string[] = []
  const { position, close } = driver.views.subscribe('counts', update => {
    for (const { op, row } of update.changes) seen.push(`${op} ${row.windowStart} ${row.final}`)
  })
  await driver.advanceWallClock(200)
  expect(driver.views.position()).toBe(position)
  expect(seen).toEqual(['upsert 0 true'])
  close()
  await driver.close()
  expect(driver.database.openHandles).toBe(0)
})

test('after a failed epoch followers begin anew, and the view is there when they do', async () => {
  const driver = await TopologyTestDriver.open(counts())
  await driver.pipe('events', event(10))
  const { log } = driver
  const begin = log.begin.bind(log)
  const snapshots: Promise<number[]>[] = []
  const read = async () => {
    const { snapshot } = driver.views.subscribe('counts', () => {})
    const rows = []
    for await (const chunk of snapshot) rows.push(...chunk.map(row => Number(row.count)))
    return rows
  }
  const { close } = driver.views.subscribe('counts', ({ reset }) => {
    if (reset) snapshots.push(read())
  })
  await driver.append('events', [event(20)])
  let failures = 1
  log.begin = () => {
    const transaction = begin()
    const commit = transaction.commit.bind(transaction)
    transaction.commit = request =>
      failures-- > 0 ? Promise.reject(new Error('disk full')) : commit(request)
    return transaction
  }
  await driver.engine.turn()
  const turned = driver.engine.turn()
  for (let waits = 0; waits < 20; waits++) {
    await new Promise(resolve => setImmediate(resolve))
    driver.tick(100)
  }
  await turned
  await driver.process()
  expect(snapshots).toHaveLength(1)
  expect(await snapshots[0]).toEqual([1])
  expect(await driver.rows('counts')).toMatchObject([{ count: 2 }])
  close()
  await driver.close()
  expect(driver.database.openHandles).toBe(0)
})
