/** `millrace topics`: the topics of a data folder and what they hold. */
import type { OffsetRange, TopicConfig } from '../log/port.ts'
import { type Command, jsonSwitch } from './command.ts'
import { bodyOf, connectionSettings, withConnection } from './connection.ts'
import { readSettings } from './settings.ts'
import { textTable } from './text-table.ts'

interface TopicRow {
  readonly name: string
  readonly partitions: readonly OffsetRange[]
  readonly config: TopicConfig
}

export const topicsCommand: Command = {
  name: 'topics',
  operands: '',
  operandsMin: 0,
  operandsMax: 0,
  summary: 'Lists the topics with their partitions and offsets.',
  settings: connectionSettings,
  switches: [jsonSwitch],
  examples: ['millrace topics', 'millrace topics --data-dir ./data --json'],
  async run({ flags, terminal }) {
    const settings = readSettings(connectionSettings, flags, terminal.environment)
    const { topics } = await withConnection(settings, async connection =>
      bodyOf(await connection.get('/v1/topology')),
    )
    const rows = topics as readonly TopicRow[]
    if (flags.json === true) terminal.out(`${JSON.stringify({ topics: rows })}\n`)
    else terminal.out(textTable(rows.map(rowOf)))
    return 0
  },
}

function rowOf({ name, partitions, config }: TopicRow) {
  const records = partitions.reduce((sum, range) => sum + range.endOffset - range.startOffset, 0)
  const ends = partitions.map(range => range.endOffset)
  const retention = config.retentionMs < 0 ? 'forever' : `${config.retentionMs} ms`
  return {
    topic: name,
    partitions: partitions.length,
    offsets: records,
    'end offsets': ends.length > 8 ? `${ends.slice(0, 8).join(' ')} …` : ends.join(' '),
    kept: config.cleanup === 'compact' ? 'last of each key' : retention,
  }
}
