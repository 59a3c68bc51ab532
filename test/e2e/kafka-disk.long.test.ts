/** A disk that is full, or fails, under an application on Kafka. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import type { Database, WriteBatch } from '../../log/database.ts'
import type { MillraceError } from '../../log/errors.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { viewService } from '../../streams/view-service.ts'
import { appendFacts, manyKeys } from '../crash/many-keys.ts'
import { type Application, startApplication } from '../support/kafka/application.ts'
import { describeOnKafka, ownName } from '../support/kafka/shared.ts'
import { scratchFolder } from '../support/service-process.ts'

/** Takes nothing while it has a reason. */
class FailingDatabase extends MemoryDatabase {
  reason: string | undefined

  override batch(): WriteBatch {
    const batch = super.batch()
    const commit = batch.commit.bind(batch)
    batch.commit = () => {
      if (this.reason === undefined) return commit()
      batch.discard()
      return Promise.reject(new Error(this.reason))
    }
    return batch
  }
}

const MIB = 1024 * 1024
/** Facts at a time, until the disk is full: the database has taken some space before. */
const MORE = 20_000

/** A folder on a disk of its own; undefined where that may not be made. */
async function smallDisk(bytes: number) {
  const { path, remove } = await scratchFolder()
  try {
    const size = ['-o', `size=${bytes}`]
    execFileSync('mount', ['-t', 'tmpfs', ...size, 'tmpfs', path], { stdio: 'ignore' })
  } catch {
    await remove()
    return undefined
  }
  const unmount = async () => {
    execFileSync('umount', [path])
    await remove()
  }
  return { path, unmount }
}

describeOnKafka('an application whose disk', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function start(prefix: string, database: Database): Promise<Application> {
    const { bootstrap } = kafka
    const app = await startApplication({ bootstrap, database, ...manyKeys(prefix) })
    closing.push(() => app.stop())
    await expect.poll(() => app.engine.state).toBe('running')
    return app
  }

  /** How many facts its view has counted; -1 while it does not say. */
  async function counted({ engine, log }: Application): Promise<number> {
    const views = viewService({ engine, ...effects, incarnation: log.incarnation })
    let sum = 0
    try {
      for (let cursor: string | undefined; ; ) {
        const page = await views.localRows('totals', { key: {}, limit: 1000, cursor })
        for (const { count } of page.rows) sum += count as number
        if (page.next === null) return sum
        cursor = page.next
      }
    } catch {
      return -1
    }
  }

  const codes = ({ errors }: Application) => errors.map(error => (error as MillraceError).code)

  test.each(['IO error: No space left on device', 'IO error: Input/output error'])(
    'faults 18 and 19: says %s: it is not ready, and goes on once that is mended',
    async reason => {
      const database = new FailingDatabase()
      const prefix = `${ownName('disk')}-`
      const app = await start(prefix, database)
      await appendFacts(app.log, prefix, 0, 100)
      await expect.poll(() => counted(app)).toBe(100)
      database.reason = reason
      await appendFacts(app.log, prefix, 100, 200)
      await expect.poll(() => codes(app)).toContain('KAFKA_STATE_UNWRITTEN')
      await expect.poll(() => app.engine.state).toBe('restoring')
      expect(app.errors[0]!.message).toContain(reason)
      expect(await counted(app)).toBe(-1)
      await appendFacts(app.log, prefix, 200, 300)
      await sleep(1_000)
      database.reason = undefined
      await expect.poll(() => counted(app), { timeout: 30_000 }).toBe(300)
      expect(app.engine.state).toBe('running')
    },
    60_000,
  )

  test('fault 18: is really full goes on when there is space, with nothing lost or doubled', async context => {
    const disk = await smallDisk(160 * MIB)
    if (disk === undefined) return context.skip('a small disk cannot be mounted here')
    closing.push(disk.unmount)
    const ballast = join(disk.path, 'ballast')
    mkdirSync(join(disk.path, 'data'))
    const owner = { pid: process.pid, bootId: 'one' }
    const database = await openRocksDB(join(disk.path, 'data/db'), { owner })
    closing.push(() => database.close())
    const prefix = `${ownName('full')}-`
    const app = await start(prefix, database)
    await appendFacts(app.log, prefix, 0, 1000)
    await expect.poll(() => counted(app)).toBe(1000)
    for (let size = 64 * MIB, i = 0; size >= 4096; size /= 2, i++) {
      // As much as fits, in pieces.
      for (;;) {
        try {
          writeFileSync(`${ballast}-${i}-${size}-${Math.random()}`, Buffer.alloc(size))
        } catch {
          break
        }
      }
    }
    let appended = 1000
    await expect
      .poll(
        async () => {
          await appendFacts(app.log, prefix, appended, appended + MORE)
          appended += MORE
          return codes(app)
        },
        { timeout: 90_000, interval: 200 },
      )
      .toContain('KAFKA_STATE_UNWRITTEN')
    await sleep(5_000)
    expect(app.engine.state).toBe('restoring')
    execFileSync('sh', ['-c', `rm -f ${ballast}-*`])
    await expect.poll(() => counted(app), { timeout: 90_000 }).toBe(appended)
  }, 240_000)
})
