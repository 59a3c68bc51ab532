/** `millrace replay` and `convert` as the command line calls them, and recordings for them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { vi } from 'vitest'
import { type Command, parseCommand } from '../../cli/command.ts'
import { convertCommand } from '../../cli/convert.ts'
import { replayCommand } from '../../cli/replay.ts'
import type { Environment } from '../../cli/settings.ts'
import { eventRecord } from '../../contracts/event-record.ts'
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { openOnMemory } from '../log/embedded/environment.ts'
import { MemoryFile, recordInto } from '../recording/worlds.ts'
import { childEnvironment, root } from '../support/processes.ts'

type Called = (argv: readonly string[], environment?: Environment) => ReturnType<typeof call>

export const callReplay: Called = (argv, environment) => call(replayCommand, argv, environment)
export const callConvert: Called = (argv, environment) => call(convertCommand, argv, environment)

/** Exit code and output, or the error. */
async function call(command: Command, argv: readonly string[], environment: Environment = {}) {
  let out = ''
  let err = ''
  const terminal = {
    environment,
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
    isInteractive: false,
  }
  try {
    const { flags, operands } = parseCommand(command, argv)
    return { code: await command.run({ flags, operands, terminal }), out, err }
  } catch (error) {
    const { code = 'CRASH', message } = error as { code?: string; message: string }
    return { code, out, err: err + message }
  }
}

/** So many events of `orders`, 100 ms apart, with other ids of their schemas if wanted. */
export function cancellations(count: number, idShift = 0): Buffer {
  const builder = new RecordBatchBuilder()
  const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
  for (let i = 0; i < count; i++) {
    const cancelledAt = Date.UTC(2026, 0, 5) + 100 * i
    const { key, value, timestamp, headers } = eventRecord(
      { type: 'OrderCancelled', orderId: `o${i}`, reason: 'none', cancelledAt },
      { id: `e${i}`, source: 'test' },
    )
    value.writeUInt32BE(value.readUInt32BE(1) + idShift, 1)
    builder.append(timestamp, whole(key), whole(value), headers)
  }
  return builder.finish()
}

/** Writes a recording of one partition. */
export async function writeRecording(
  path: string,
  topic: string,
  batch: Buffer,
  kind: 'embedded' | 'kafka' = 'embedded',
): Promise<void> {
  const { log, dispose } = await openOnMemory()
  await log.createTopic(topic, 1)
  const transaction = log.begin()
  transaction.append({ topic, partition: 0 }, batch)
  await transaction.commit()
  const file = new MemoryFile()
  await recordInto(file, log as EmbeddedLog, { topics: [topic], kind })
  await dispose()
  await writeFile(path, file.bytes)
}

export interface Replaying {
  readonly stderr: () => string
  /** Resolves when standard error has the text. */
  said(text: string): Promise<unknown>
  signal(name: NodeJS.Signals): void
  readonly done: Promise<{ code: number | null; out: string }>
}

/** `millrace replay` as a process of its own. */
export function startReplay(argv: readonly string[], environment: Environment = {}): Replaying {
  const child = spawn('node', ['cli/main.ts', 'replay', ...argv], {
    cwd: root,
    env: { ...childEnvironment, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [out, err] = ['', '']
  child.stdout.on('data', chunk => (out += chunk))
  child.stderr.on('data', chunk => (err += chunk))
  return {
    stderr: () => err,
    said: text => vi.waitUntil(() => err.includes(text), { timeout: 60_000 }),
    signal: name => void child.kill(name),
    done: once(child, 'close').then(([code]) => ({ code, out })),
  }
}

/** The lines of a request's body; resolves with the answer, or never. */
export type Taking = (lines: readonly string[], request: number) => Answer | undefined
interface Answer {
  readonly status?: number
  readonly body: object
}

/** A server that answers as an instance does to a replay, or nearly. */
export async function startInstance(take: Taking, topology: object = { topics: [] }) {
  let requests = 0
  const server = createServer(async (request, response) => {
    const text = (await request.toArray()).join('')
    const lines = text.split('\n').filter(line => line !== '')
    const isPost = request.method === 'POST'
    const answer = isPost ? take(lines, ++requests) : { body: topology }
    if (answer === undefined) return
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(answer.body))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${port}`, stop, [Symbol.asyncDispose]: stop }
}
