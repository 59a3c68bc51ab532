/** `millrace reset`: rebuild all views from the input. */
import { pino } from 'pino'
import { inputTopics } from '../contracts/topics.ts'
import { analyticsTopology } from '../processors/analytics/analytics.ts'
import { type ResetOptions, resetApplication, resetStore, storesToReset } from '../streams/reset.ts'
import { openBacking } from './backing.ts'
import type { Command } from './command.ts'
import { cliError } from './errors.ts'
import { kafkaSettingNames, readKafkaSettings } from './kafka-settings.ts'
import { APPLICATION } from './service.ts'
import { readSettings } from './settings.ts'

const settingNames = ['dataDir', ...kafkaSettingNames] as const

export const resetCommand: Command = {
  name: 'reset',
  operands: '[STEP …]',
  operandsMin: 0,
  operandsMax: 20,
  summary:
    'Deletes the state of the views, or of some steps, which the next start rebuilds from the input.',
  settings: settingNames,
  switches: [{ name: 'dry-run', meaning: 'says what would be deleted, and deletes nothing' }],
  examples: [
    'millrace reset --dry-run',
    'millrace reset --data-dir ./data',
    'millrace reset top-products',
  ],
  async run({ flags, operands, terminal }) {
    const settings = readSettings(settingNames, flags, terminal.environment)
    const kafka = readKafkaSettings(settings, APPLICATION)
    const dryRun = flags['dry-run'] === true
    const backing = await openBacking(settings.dataDir, kafka, pino({ level: 'silent' }))
    try {
      const { database, log } = backing
      const options = { application: APPLICATION, database, log, dryRun }
      const verb = dryRun ? 'Would delete' : 'Deleted'
      if (operands.length > 0) {
        await resetSteps(operands, options, text => terminal.out(`${verb} ${text}\n`))
      } else {
        const report = await resetApplication({ ...options, inputs: inputTopics })
        terminal.out(
          `${verb} the state and ${report.topics.length} internal topics; ${report.partitions} input partitions are read from their start.\n`,
        )
      }
      if (kafka !== undefined && !dryRun && operands.length === 0) {
        terminal.out('Reset the data folders of the other instances, too, before any is started.\n')
      }
      return 0
    } finally {
      await backing.close()
    }
  },
}

/** Nothing is deleted when one is not there, or a step below is left out. */
async function resetSteps(
  names: readonly string[],
  options: Omit<ResetOptions, 'inputs'>,
  print: (text: string) => void,
): Promise<void> {
  const topology = analyticsTopology({ retentionMs: Number.POSITIVE_INFINITY })
  const { stores, below } = storesToReset(topology, names)
  if (below.length > 0) {
    const reason = `These steps are made of what would be deleted: name them, too: ${below.join(' ')}`
    throw cliError('USAGE', { reason })
  }
  for (const store of stores) {
    const found = await resetStore({ ...options, store, dryRun: true })
    if (found.length > 0) continue
    throw cliError('USAGE', { reason: `There is no store ${store}. See \`millrace topology\`.` })
  }
  for (const store of stores) {
    for (const changelog of await resetStore({ ...options, store })) {
      print(`what ${store} held, and ${changelog}`)
    }
  }
}
