import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { OutboxFile } from '../../cli/outbox.ts'
import { scratchFolder } from '../support/service-process.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

async function folder(): Promise<string> {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  return path
}

const dayMs = 24 * 60 * 60 * 1000
const notification = (notificationId: string, requestedAt = 0) => ({
  type: 'NotificationRequested' as const,
  notificationId,
  orderId: 'o-1',
  customerId: 'c-é',
  channel: 'email',
  template: 'order-received',
  requestedAt,
})

async function sent(path: string): Promise<string[]> {
  const text = await readFile(join(path, 'email.ndjson'), 'utf8')
  expect(text === '' || text.endsWith('\n')).toBe(true)
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => (JSON.parse(line) as { notificationId: string }).notificationId)
}

test('a notification is sent once, however often it is told, and after a restart', async () => {
  const path = await folder()
  const first = await OutboxFile.open(path, 'email')
  await first.send([notification('a'), notification('b'), notification('a')])
  await first.send([notification('b'), notification('c')])
  await first.close()
  const second = await OutboxFile.open(path, 'email')
  await second.send([notification('c'), notification('d')])
  await second.close()
  expect(await sent(path)).toEqual(['a', 'b', 'c', 'd'])
})

test('a line that a kill has torn was not sent: it is cut off and written anew', async () => {
  const whole = `${JSON.stringify(notification('b'))}\n`
  const bytes = Buffer.from(whole)
  for (let torn = 0; torn <= bytes.length; torn++) {
    const path = await folder()
    const first = await OutboxFile.open(path, 'email')
    await first.send([notification('a')])
    await first.close()
    await appendFile(join(path, 'email.ndjson'), bytes.subarray(0, torn))
    const second = await OutboxFile.open(path, 'email')
    await second.send([notification('a'), notification('b'), notification('c')])
    await second.close()
    expect(await sent(path), `torn at ${torn}`).toEqual(['a', 'b', 'c'])
  }
})

test('a file of more than one read is taken whole', async () => {
  const path = await folder()
  const first = await OutboxFile.open(path, 'email')
  const many = Array.from({ length: 10_000 }, (_, i) => notification(`n-${i}`))
  await first.send(many)
  await first.close()
  const second = await OutboxFile.open(path, 'email')
  await second.send([...many, notification('last')])
  await second.close()
  expect((await sent(path)).length).toBe(10_001)
})

test('what is older than copies come is forgotten', async () => {
  const path = await folder()
  const outbox = await OutboxFile.open(path, 'email')
  await outbox.send([notification('a', 0)])
  await outbox.send([notification('b', 8 * dayMs)])
  await outbox.send([notification('a', 0), notification('b', 8 * dayMs)])
  await outbox.close()
  expect(await sent(path)).toEqual(['a', 'b', 'a'])
})
