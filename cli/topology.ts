/** `millrace topology`: the steps, stores and views of the service, without running it. */
import { inputPartitions, inputTopics } from '../contracts/topics.ts'
import { planTopology } from '../streams/plan.ts'
import { chosenApplications } from './applications.ts'
import { type Command, jsonSwitch } from './command.ts'
import { readSettings } from './settings.ts'
import { describeTopology, topologyMermaid, topologyText } from './topology-drawing.ts'

const topologySettings = ['viewRetention', 'analytics', 'services'] as const

export const topologyCommand: Command = {
  name: 'topology',
  operands: '',
  operandsMin: 0,
  operandsMax: 0,
  summary: 'Prints the topologies of the applications as text, as JSON or as a Mermaid diagram.',
  settings: topologySettings,
  switches: [{ name: 'mermaid', meaning: 'prints a Mermaid diagram' }, jsonSwitch],
  examples: ['millrace topology', 'millrace topology --services off --mermaid > topology.mmd'],
  async run({ flags, terminal }) {
    const settings = readSettings(topologySettings, flags, terminal.environment)
    const partitions = new Map(inputTopics.map(name => [name, inputPartitions]))
    const plans = chosenApplications(settings, true).map(each => planTopology(each, partitions))
    if (flags.json === true) {
      terminal.out(`${JSON.stringify({ applications: plans.map(describeTopology) })}\n`)
    } else terminal.out(flags.mermaid === true ? topologyMermaid(plans) : topologyText(plans))
    return 0
  },
}
