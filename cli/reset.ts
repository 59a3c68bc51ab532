/** `millrace reset`: rebuild all views from the input. */
import { join } from 'node:path'
import { inputTopics } from '../contracts/topics.ts'
import { openEmbeddedLog } from '../log/embedded/index.ts'
import { openRocksDB } from '../state/rocksdb.ts'
import { resetApplication } from '../streams/reset.ts'
import type { Command } from './command.ts'
import { bootId, effects } from './effects.ts'
import { readSettings } from './settings.ts'

const settingNames = ['dataDir'] as const

export const resetCommand: Command = {
  name: 'reset',
  operands: '',
  operandsMin: 0,
  operandsMax: 0,
  summary: 'Deletes the state of the views, which the next start rebuilds from the input.',
  settings: settingNames,
  switches: [{ name: 'dry-run', meaning: 'says what would be deleted, and deletes nothing' }],
  examples: ['millrace reset --dry-run', 'millrace reset --data-dir ./data'],
  async run({ flags, terminal }) {
    const { dataDir } = readSettings(settingNames, flags, terminal.environment)
    const dryRun = flags['dry-run'] === true
    const database = await openRocksDB(join(dataDir, 'db'), { ownerPid: process.pid })
    try {
      const log = await openEmbeddedLog(database, effects, { bootId: bootId() })
      const { topics, partitions } = await resetApplication({
        application: 'analytics',
        inputs: inputTopics,
        database,
        log,
        dryRun,
      })
      await log.close()
      const verb = dryRun ? 'Would delete' : 'Deleted'
      terminal.out(
        `${verb} the state and ${topics.length} internal topics; ${partitions} input partitions are read from their start.\n`,
      )
      return 0
    } finally {
      await database.close()
    }
  },
}
