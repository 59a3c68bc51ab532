/** `millrace topology`: the steps, stores and views of the service, without running it. */
import { inputPartitions, inputTopics } from '../contracts/topics.ts'
import { analyticsTopology } from '../processors/analytics/analytics.ts'
import { planTopology } from '../streams/plan.ts'
import { type Command, jsonSwitch } from './command.ts'
import { readSettings } from './settings.ts'
import { describeTopology, topologyMermaid, topologyText } from './topology-drawing.ts'

export const topologyCommand: Command = {
  name: 'topology',
  operands: '',
  operandsMin: 0,
  operandsMax: 0,
  summary: 'Prints the topology as text, as JSON or as a Mermaid diagram.',
  settings: ['viewRetention'],
  switches: [{ name: 'mermaid', meaning: 'prints a Mermaid diagram' }, jsonSwitch],
  examples: ['millrace topology', 'millrace topology --mermaid > topology.mmd'],
  async run({ flags, terminal }) {
    const { viewRetention } = readSettings(['viewRetention'], flags, terminal.environment)
    const topology = analyticsTopology({ retentionMs: viewRetention })
    const plan = planTopology(topology, new Map(inputTopics.map(name => [name, inputPartitions])))
    if (flags.json === true) terminal.out(`${JSON.stringify(describeTopology(plan))}\n`)
    else terminal.out(flags.mermaid === true ? topologyMermaid(plan) : topologyText(plan))
    return 0
  },
}
