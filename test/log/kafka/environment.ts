/** The Kafka log under test. */
import { randomBytes } from 'node:crypto'
import { expect } from 'vitest'
import { type KafkaLog, type KafkaLogOptions, openKafkaLog } from '../../../log/kafka/index.ts'
import type { LogEnvironment } from '../../../log/port.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import type { LogUnderTest } from '../../conformance/log.ts'

export const environment: LogEnvironment = {
  clock: Date.now,
  schedule: (task, delayMs) => {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
}

export function openLog(
  bootstrap: string,
  options: Partial<KafkaLogOptions> = {},
): Promise<KafkaLog> {
  return openKafkaLog({ bootstrap: bootstrap.split(','), environment, ...options })
}

/** On brokers of its own: it counts topics and groups, and ends with none. */
export async function openConformanceLog(bootstrap: string): Promise<LogUnderTest> {
  const database = new MemoryDatabase()
  const open = async (): Promise<LogUnderTest> => {
    const log = await openLog(bootstrap, { database, transactionalId: 'conformance' })
    return { log, isExact: false, reopen: open, dispose: () => dispose(log, bootstrap) }
  }
  return open()
}

async function dispose(log: KafkaLog, bootstrap: string): Promise<void> {
  await log.close()
  const admin = await openLog(bootstrap)
  try {
    for (const { name } of await admin.listTopics()) await admin.deleteTopic(name)
    await expect.poll(() => admin.listGroups(), { timeout: 30_000 }).toEqual([])
  } finally {
    await admin.close()
  }
}
