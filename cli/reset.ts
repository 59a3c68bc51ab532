/** `millrace reset`: have an application begin anew from its input. */
import { pino } from 'pino'
import { type ResetOptions, resetApplication, resetStore, storesToReset } from '../streams/reset.ts'
import type { Topology } from '../streams/topology.ts'
import { ANALYTICS, allApplications } from './applications.ts'
import { openBacking } from './backing.ts'
import type { Command } from './command.ts'
import { cliError } from './errors.ts'
import { kafkaSettingNames, readKafkaSettings } from './kafka-settings.ts'
import { readSettings } from './settings.ts'

const settingNames = ['dataDir', ...kafkaSettingNames] as const

export const resetCommand: Command = {
  name: 'reset',
  operands: '[STEP …]',
  operandsMin: 0,
  operandsMax: 20,
  summary:
    'Deletes the state of an application, or of some steps, which the next start rebuilds from the input.',
  settings: settingNames,
  switches: [
    { name: 'dry-run', meaning: 'says what would be deleted, and deletes nothing' },
    {
      name: 'application',
      placeholder: 'NAME',
      meaning: `which application; ${ANALYTICS} unless given`,
    },
  ],
  examples: [
    'millrace reset --dry-run',
    'millrace reset --data-dir ./data',
    'millrace reset top-products',
    'millrace reset --application NAME --dry-run',
  ],
  async run({ flags, operands, terminal }) {
    const settings = readSettings(settingNames, flags, terminal.environment)
    const kafka = readKafkaSettings(settings)
    const dryRun = flags['dry-run'] === true
    const topology = applicationNamed(flags.application)
    const { application } = topology
    const backing = await openBacking({
      dataDir: settings.dataDir,
      ...(kafka && { kafka }),
      applications: [application],
      logger: pino({ level: 'silent' }),
    })
    try {
      const { database, log } = backing
      const options = { application, database, log, dryRun }
      const verb = dryRun ? 'Would delete' : 'Deleted'
      if (operands.length > 0) {
        await resetSteps(operands, { ...options, topology }, text =>
          terminal.out(`${verb} ${text}\n`),
        )
      } else {
        const report = await resetApplication({ ...options, inputs: inputsOf(topology) })
        terminal.out(
          `${verb} the state of ${application} and ${report.topics.length} internal topics; ${report.partitions} input partitions are read from their start.\n`,
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

function inputsOf({ nodes }: Topology): string[] {
  return nodes.flatMap(node => (node.kind === 'source' ? [node.topic] : []))
}

/** Throws USAGE for a name that is none. */
function applicationNamed(name: unknown = ANALYTICS): Topology {
  const all = allApplications({ viewRetention: Number.POSITIVE_INFINITY })
  const found = all.find(({ application }) => application === name)
  if (found !== undefined) return found
  const names = all.map(({ application }) => application).join(', ')
  throw cliError('USAGE', { reason: `There is no application ${name}; there are ${names}.` })
}

/** Nothing is deleted when one is not there, or a step below is left out. */
async function resetSteps(
  names: readonly string[],
  { topology, ...options }: Omit<ResetOptions, 'inputs'> & { topology: Topology },
  print: (text: string) => void,
): Promise<void> {
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
