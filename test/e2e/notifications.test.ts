/** What the service sends while it is killed again and again: all that was asked for, once. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { notificationTopic } from '../../cli/notification-sender.ts'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import { eventSerde } from '../../processors/analytics/event-streams.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { textKey } from '../../streams/index.ts'
import { readTopic } from '../../streams/testing/read-topic.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

const wait = { timeout: 60_000, interval: 30 }

async function requested(dataDir: string): Promise<string[]> {
  const database = await openRocksDB(join(dataDir, 'db'))
  const log = await openEmbeddedLog(database, effects)
  const serdes = { key: textKey(), value: eventSerde }
  const topic = notificationTopic
  const records = await readTopic({ log, topic, serdes, positions: new Map() })
  await log.close()
  await database.close()
  return records.map(({ value }) => (value as { notificationId: string }).notificationId).sort()
}

async function sent(dataDir: string): Promise<string[]> {
  const ids: string[] = []
  for (const file of await readdir(join(dataDir, 'outbox'))) {
    const text = await readFile(join(dataDir, 'outbox', file), 'utf8')
    // What a kill has torn off is cut when it is opened: only whole lines were sent.
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      if (line !== '') ids.push((JSON.parse(line) as { notificationId: string }).notificationId)
    }
  }
  return ids.sort()
}

test('kill -9 while notifications are sent: each that was asked for is sent once', async () => {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  let before = 0
  for (let run = 0; run < 4; run++) {
    const environment = { RATE: '300', SEED: '3', SERVICES: 'notification,payment' }
    const service = await ServiceProcess.start(path, [], environment)
    await expect.poll(async () => (await sent(path)).length, wait).toBeGreaterThan(before + 50)
    await service.kill()
    const ids = await sent(path)
    expect(new Set(ids).size).toBe(ids.length)
    before = ids.length
  }
  for (let run = 0; run < 20; run++) {
    const environment = { ANALYTICS: 'off', SERVICES: 'notification' }
    const service = await ServiceProcess.start(path, ['--no-demo'], environment)
    await new Promise(resolve => setTimeout(resolve, 1000))
    await service.stop()
    if ((await sent(path)).length === (await requested(path)).length) break
  }
  expect(await sent(path)).toEqual(await requested(path))
})
