/** Replays of events whose schema ids are those of a registry that had other schemas before. */
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { openFolder } from '../../cli/log-access.ts'
import { eventCodec } from '../../contracts/event-codec.ts'
import { fixedSchemas, schemaHistory } from '../../contracts/schemas.ts'
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { openOnMemory } from '../log/embedded/environment.ts'
import { MemoryFile, recordInto, resumeInto } from '../recording/worlds.ts'
import { scratchPaths } from '../support/scratch.ts'
import {
  callConvert,
  callReplay,
  cancellations,
  startInstance,
  startReplay,
  writeRecording,
} from './replay-calls.ts'

const at = scratchPaths()
const current = fixedSchemas.current('OrderCancelled')

afterEach(() => eventCodec.use(fixedSchemas))
/** A registry whose ids are so many higher; it has today's OrderCancelled as 500, too. */
async function startRegistry(idShift: number) {
  const documents = schemaHistory.map(({ id, schema }) => [id, JSON.stringify(schema)] as const)
  const ids = new Map(documents.map(([id, text]) => [text, id + idShift]))
  const asked: string[] = []
  const server = createServer(async (request, response) => {
    const text = (await request.toArray()).join('')
    asked.push(`${request.method} ${request.url}`)
    const isFound = request.method === 'POST' || request.url === '/schemas/ids/500'
    const posted = text === '' ? undefined : JSON.parse(text).schema
    const found = { id: ids.get(posted), schema: JSON.stringify(current.schema) }
    response.writeHead(isFound ? 200 : 404, { 'content-type': 'application/json' })
    response.end(JSON.stringify(isFound ? found : { error_code: 40403, message: 'none' }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, asked, [Symbol.asyncDispose]: async () => void server.close() }
}

test.each([
  [-1, 'and its schema id 18 stands for ProductUpdated here'],
  [100, 'and its schema id 119 stands for no event here'],
])('ids shifted by %i are named before anything is sent', async (shift, expected) => {
  await writeRecording(at('other.mrec'), 'orders', cancellations(3, shift), 'kafka')
  let posts = 0
  await using instance = await startInstance(() => void posts++)
  const rewrites = [
    ['--to', at(`other${shift}`), '--loop', '2', '--speed', 'max'],
    ['--to', at(`other${shift}`), '--rewrite-time', 'now'],
    ['--to', instance.url],
  ]
  for (const argv of rewrites) {
    const { code, out, err } = await callReplay([at('other.mrec'), ...argv])
    expect([code, out]).toEqual(['RECORDED_SCHEMA', ''])
    const start = 'Offset 0 of orders-0 in the recording is the event OrderCancelled'
    expect(err).toContain(`${start}, ${expected}`)
  }
  expect(posts).toBe(0)
  const asIs = await callReplay([at('other.mrec'), '--to', at(`as${shift}`), '--speed', 'max'])
  expect(asIs.code).toBe(0)
})

test('one further on ends the replay there, with a report', async () => {
  const { log, dispose } = await openOnMemory()
  await log.createTopic('orders', 1)
  const file = new MemoryFile()
  const options = { recordsMax: 3 }
  const batches = [cancellations(3), cancellations(3, 100)]
  for (const batch of batches) {
    const transaction = log.begin()
    transaction.append({ topic: 'orders', partition: 0 }, batch)
    await transaction.commit()
  }
  await recordInto(file, log as EmbeddedLog, { topics: ['orders'], options })
  await resumeInto(file, log as EmbeddedLog)
  await dispose()
  await writeFile(at('mixed.mrec'), file.bytes)
  const argv = ['--to', at('mixed'), '--speed', 'max', '--rewrite-time', 'now', '--json']
  const { code, out } = await callReplay([at('mixed.mrec'), ...argv])
  expect(code).toBe(1)
  expect(JSON.parse(out)).toMatchObject({ acknowledged: 3, failure: { code: 'RECORDED_SCHEMA' } })
})

test.each([
  ['that this version knows', 100],
  ['that are looked up', 500 - current.id],
])('with the registry, a later pass has new events; ids %s', async (name, shift) => {
  await using registry = await startRegistry(100)
  await writeRecording(at('shifted.mrec'), 'orders', cancellations(2, shift), 'kafka')
  const to = at(`shifted ${name}`)
  const argv = [at('shifted.mrec'), '--to', to, '--loop', '2', '--speed', 'max']
  const { code, err } = await callReplay(argv, { REGISTRY_URL: registry.url })
  expect([code, err]).toEqual([0, expect.stringContaining('4 records')])
  const orders: string[] = []
  const { log, close } = await openFolder(to)
  const [read] = await log.fetch([{ topic: 'orders', partition: 0, offset: 0, bytesMax: 1 << 20 }])
  for (const { length, bytes, valueStart, valueEnd } of decodeBatches(read!.bytes).runs) {
    for (let i = 0; i < length; i++) {
      const event = eventCodec.decode(bytes, valueStart[i]!, valueEnd[i]!)
      orders.push((event as { orderId: string }).orderId)
    }
  }
  await close()
  expect(orders).toEqual(['o0', 'o1', 'o0~1', 'o1~1'])
  expect(registry.asked.filter(each => each.includes('/config'))).toEqual([])
})

test('converted without their registry they are bytes, and told; with it they are events', async () => {
  await using registry = await startRegistry(100)
  const events = cancellations(2, 500 - current.id)
  await writeRecording(at('convert.mrec'), 'orders', events, 'kafka')
  const convert = async (to: string, environment = {}) => {
    const { err, code } = await callConvert([at('convert.mrec'), at(to)], environment)
    expect(code).toBe(0)
    const lines = (await readFile(at(to), 'utf8')).trim().split('\n')
    return { err, kinds: lines.map(line => JSON.parse(line).type ?? JSON.parse(line).encoding) }
  }
  const without = await convert('without.ndjson')
  expect(without.kinds).toEqual(['base64', 'base64'])
  expect(without.err).toContain('2 of them have a schema id that is not of their ce_type here')
  const withIt = await convert('with.ndjson', { REGISTRY_URL: registry.url })
  expect(withIt.kinds).toEqual(['OrderCancelled', 'OrderCancelled'])
  expect(withIt.err).not.toContain('of them')
  expect(registry.asked).toEqual(['GET /schemas/ids/500'])
})

test('Ctrl-C ends the wait for a registry that is down', async () => {
  await writeRecording(at('waits.mrec'), 'orders', cancellations(1), 'kafka')
  const argv = [at('waits.mrec'), '--to', at('waits'), '--loop', '2']
  const replay = startReplay(argv, { REGISTRY_URL: 'http://127.0.0.1:1' })
  await replay.said('the schema registry cannot be asked')
  replay.signal('SIGINT')
  expect((await replay.done).code).toBe(130)
  expect(replay.stderr()).not.toContain('Error:')
})
