/** `millrace replay` as the command line calls it, and recordings for it. */
import { writeFile } from 'node:fs/promises'
import { parseCommand } from '../../cli/command.ts'
import { replayCommand } from '../../cli/replay.ts'
import type { Environment } from '../../cli/settings.ts'
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import type { TestRecord } from '../log/batches.ts'
import { openOnMemory } from '../log/embedded/environment.ts'
import { append, MemoryFile, recordInto } from '../recording/worlds.ts'

/** Exit code and output, or the error. */
export async function callReplay(argv: readonly string[], environment: Environment = {}) {
  let out = ''
  let err = ''
  const terminal = {
    environment,
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
    isInteractive: false,
  }
  try {
    const { flags, operands } = parseCommand(replayCommand, argv)
    return { code: await replayCommand.run({ flags, operands, terminal }), out, err }
  } catch (error) {
    const { code = 'CRASH', message } = error as { code?: string; message: string }
    return { code, out, err: err + message }
  }
}

/** Writes a recording of one partition. */
export async function writeRecording(
  path: string,
  topic: string,
  records: readonly TestRecord[],
): Promise<void> {
  const { log, dispose } = await openOnMemory()
  await log.createTopic(topic, 1)
  await append(log as EmbeddedLog, { topic, partition: 0 }, records)
  const file = new MemoryFile()
  await recordInto(file, log as EmbeddedLog, { topics: [topic] })
  await dispose()
  await writeFile(path, file.bytes)
}
