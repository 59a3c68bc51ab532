import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { openEmbeddedLog } from '../../../log/embedded/index.ts'
import { openRocksDB } from '../../../state/rocksdb.ts'
import { p0, p1, readAll } from '../../conformance/log.ts'
import { childEnvironment } from '../../support/processes.ts'
import { environment } from './environment.ts'

const SEED = 20_261_121
const KILLS = 8

/** A small generator of numbers in [0, 1), the same for the same seed. */
function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** Runs the child until `acks` more came, and `extraMs`; returns the last acknowledged number. */
async function runAndKill(path: string, acks: number, extraMs: number): Promise<number> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'crash-child.ts'), path], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: childEnvironment,
  })
  const ended = new Promise<void>(resolve => child.on('close', () => resolve()))
  let last = -1
  let count = 0
  for await (const line of createInterface(child.stdout)) {
    if (line === 'ready') continue
    last = Math.max(last, Number(line))
    if (++count === acks) setTimeout(() => child.kill('SIGKILL'), extraMs)
  }
  await ended
  expect(child.signalCode, 'the child ran until it was killed').toBe('SIGKILL')
  return last
}

test(`kill -9 loses nothing acknowledged and shows nothing half done (seed ${SEED})`, async () => {
  const random = seeded(SEED)
  const path = await mkdtemp(join(tmpdir(), 'millrace-crash-'))
  let incarnation: string | undefined
  let acknowledged = -1
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const acks = 1 + Math.floor(random() * 200)
      acknowledged = Math.max(acknowledged, await runAndKill(path, acks, random() * 8))
      const database = await openRocksDB(path)
      const log = await openEmbeddedLog(database, environment, { bootId: 'boot' })
      const lines = await readAll(log, p0)
      expect(lines).toEqual(lines.map((_, i) => `${i} n=${i}`))
      expect(lines.length).toBeGreaterThan(acknowledged)
      expect(await readAll(log, p1)).toEqual(lines)
      expect((await log.committed('g', [p0]))[0]?.offset).toBe(lines.length)
      expect((await database.getMany([Buffer.from('M1')]))[0]?.toString()).toBe(`${lines.length}`)
      const table = { topic: 'table', partition: 0 }
      expect((await log.offsets([table]))[0].endOffset).toBe(lines.length)
      const rows = new Map<string, string>()
      for (const line of await readAll(log, table)) {
        const [key, value] = line.split(' ')[1].split('=')
        rows.set(key, value)
      }
      for (let n = Math.max(0, lines.length - 10); n < lines.length; n++) {
        expect(rows.get(`k${n % 10}`)).toBe(`${n}`)
      }
      incarnation ??= log.incarnation
      expect(log.incarnation).toBe(incarnation)
      if (random() < 0.5) await log.close()
      await database.close()
    }
  } finally {
    await rm(path, { recursive: true, force: true })
  }
})
