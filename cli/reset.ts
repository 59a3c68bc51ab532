/** `millrace reset`: rebuild all views from the input. */
import { pino } from 'pino'
import { inputTopics } from '../contracts/topics.ts'
import { resetApplication } from '../streams/reset.ts'
import { openBacking } from './backing.ts'
import type { Command } from './command.ts'
import { kafkaSettingNames, readKafkaSettings } from './kafka-settings.ts'
import { APPLICATION } from './service.ts'
import { readSettings } from './settings.ts'

const settingNames = ['dataDir', ...kafkaSettingNames] as const

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
    const settings = readSettings(settingNames, flags, terminal.environment)
    const kafka = readKafkaSettings(settings, APPLICATION)
    const dryRun = flags['dry-run'] === true
    const backing = await openBacking(settings.dataDir, kafka, pino({ level: 'silent' }))
    try {
      const { topics, partitions } = await resetApplication({
        application: APPLICATION,
        inputs: inputTopics,
        database: backing.database,
        log: backing.log,
        dryRun,
      })
      const verb = dryRun ? 'Would delete' : 'Deleted'
      terminal.out(
        `${verb} the state and ${topics.length} internal topics; ${partitions} input partitions are read from their start.\n`,
      )
      if (kafka !== undefined && !dryRun) {
        terminal.out('Reset the data folders of the other instances, too, before any is started.\n')
      }
      return 0
    } finally {
      await backing.close()
    }
  },
}
