/** The commands on recordings, called as the command line calls them. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Command, parseCommand } from '../../cli/command.ts'
import { inspectCommand } from '../../cli/inspect.ts'
import { openFolder } from '../../cli/log-access.ts'
import { recordCommand } from '../../cli/record.ts'
import { replayCommand } from '../../cli/replay.ts'
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import { append, MemoryFile, recordInto, smallLog } from '../recording/worlds.ts'
import { scratchFolder } from '../support/service-process.ts'

const commands: Readonly<Record<string, Command>> = {
  record: recordCommand,
  replay: replayCommand,
  inspect: inspectCommand,
}

let folder: string
let remove: () => Promise<void>
let recorded: string

const at = (name: string) => join(folder, name)

/** Exit code and output, or the error. */
async function call(name: string, ...argv: string[]) {
  const command = commands[name]!
  let out = ''
  const write = (text: string) => void (out += text)
  const terminal = { environment: {}, out: write, err: write, isInteractive: true }
  try {
    const { flags, operands } = parseCommand(command, argv)
    return { code: await command.run({ flags, operands, terminal }), out }
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return { code, out: message }
  }
}

beforeAll(async () => {
  ;({ path: folder, remove } = await scratchFolder())
  recorded = at('run.mrec')
  const { log, dispose } = await smallLog()
  const file = new MemoryFile()
  await recordInto(file, log)
  await dispose()
  await writeFile(recorded, file.bytes)
})

afterAll(() => remove())

test('into a folder, out of it, and the records are there with their places', async () => {
  const to = at('data')
  const replayed = await call('replay', recorded, '--to', to, '--speed', 'max', '--json')
  expect(replayed.code).toBe(0)
  const report = JSON.parse(replayed.out.trim().split('\n').at(-1)!)
  expect(report).toMatchObject({ planned: 24, acknowledged: 24, failure: null, target: to })
  const out = at('again.mrec')
  const topics = ['--topics', 'orders, empty,', '--data-dir', to]
  const first = await call('record', ...topics, '--out', out, '--records', '10', '--json')
  expect(JSON.parse(first.out.split('\x1b[K').at(-1)!)).toMatchObject({ records: 10 })
  const rest = await call('record', '--data-dir', to, '--out', out, '--resume')
  expect(rest).toMatchObject({ code: 0, out: expect.stringContaining('14 records of') })
  const { code, out: text } = await call('inspect', out, '--json')
  expect(code).toBe(0)
  const { partitions, codecs, isComplete } = JSON.parse(text.split('\x1b[K').at(-1)!)
  expect(partitions.map((row: { records: number }) => row.records)).toEqual([12, 12, 0])
  expect(partitions[0]).toMatchObject({ topic: 'orders', from: 0, to: 12, maxTimestamp: 3020 })
  expect([codecs, isComplete]).toEqual([{ none: 9 }, true])
  const lines = (await call('inspect', out, '--records', '3')).out.trim().split('\n')
  expect(lines.map(line => JSON.parse(line).timestamp)).toEqual([0, 10, 20])
})

test('a recording that was interrupted is replayed as far as it goes, and says so', async () => {
  const bytes = await readFile(recorded)
  await writeFile(at('torn.mrec'), bytes.subarray(0, bytes.length - 20))
  const { code, out } = await call('inspect', at('torn.mrec'))
  expect([code, out]).toEqual([0, expect.stringContaining('It was interrupted')])
  const replayed = await call('replay', at('torn.mrec'), '--to', at('torn'), '--speed', 'max')
  expect(replayed.out).toContain('was interrupted at byte')
  expect(replayed).toMatchObject({ code: 0, out: expect.stringContaining('24 of 24 records') })
  bytes[bytes.indexOf('orders') + 400]! ^= 1
  await writeFile(at('damaged.mrec'), bytes)
  const damaged = await call('inspect', at('damaged.mrec'))
  expect([damaged.code, damaged.out]).toEqual([1, expect.stringMatching(/DAMAGED at byte \d+/)])
})

test('a topic with other partitions at the target is refused before anything is sent', async () => {
  const { log, close } = await openFolder(at('other'), { create: true })
  await log.createTopic('orders', 3)
  await append(log as EmbeddedLog, { topic: 'orders', partition: 0 }, [{ key: 'own' }])
  await close()
  const { code, out } = await call('replay', recorded, '--to', at('other'), '--speed', 'max')
  expect(code).toBe('TARGET_PARTITIONS')
  expect(out).toContain('orders has 3 partitions at the target and 2 in the recording')
  const again = await openFolder(at('other'))
  const [range] = await again.log.offsets([{ topic: 'orders', partition: 0 }])
  expect(range?.endOffset).toBe(1)
  await again.close()
})

test('what is no recording, and what is not there, is named', async () => {
  await writeFile(at('garbage.mrec'), 'no recording at all')
  for (const name of ['inspect', 'replay']) {
    const { code, out } = await call(name, at('garbage.mrec'))
    const reason = `${at('garbage.mrec')} is not a recording: it does not begin as one.`
    expect([code, out]).toEqual(['RECORDING_FOREIGN', reason])
    expect((await call(name, at('none.mrec'))).code).toBe('FILE_UNREADABLE')
    expect((await call(name, folder)).code).toBe('FILE_UNREADABLE')
  }
  const record = ['--out', at('new.mrec'), '--data-dir']
  expect((await call('record', ...record, at('none'), '--topics', 'a')).code).toBe('DATA_MISSING')
  const absent = await call('record', ...record, at('torn'), '--topics', 'absent')
  expect(absent).toEqual({ code: 'TOPIC_MISSING', out: 'Topic absent does not exist.' })
  const there = ['--out', recorded, '--data-dir', at('torn'), '--topics', 'orders']
  expect(await call('record', ...there)).toMatchObject({ code: 'FILE_UNWRITABLE' })
})

test.each([
  ['replay', '--speed', 'fast'],
  ['replay', '--speed', '0'],
  ['replay', '--rate=-5'],
  ['replay', '--rate', '5', '--speed', '2'],
  ['replay', '--loop', '0'],
  ['replay', '--rewrite-time', 'then'],
  ['replay', '--to', 'kafka://nowhere'],
  ['record', '--topics', 'orders'],
  ['record', '--out', 'x.mrec'],
  ['record', '--out', 'x.mrec', '--topics', ' , '],
  ['record', '--out', 'x.mrec', '--resume', '--topics', 'orders'],
  ['record', '--out', 'x.mrec', '--topics', 'a', '--from', 'yesterday'],
  ['record', '--out', 'x.mrec', '--topics', 'a', '--duration', 'long'],
  ['record', '--out', 'x.mrec', '--topics', 'a', '--records', '1.5'],
  ['inspect', '--records', '0'],
])('misused: %s %s %s', async (name, ...argv) => {
  const operands = name === 'record' ? [] : [recorded]
  const { code, out } = await call(name!, ...operands, ...argv)
  expect(code).toBe('USAGE')
  expect(out).toContain(`See \`millrace ${name} --help\`.`)
})
