/** `millrace inspect`: what is in a recording, and whether all of it can be read. */
import { type Contents, inspect, type PartitionContents } from '../recording/inspection.ts'
import { openRecording, type Recording, readBlock, spanRecords } from '../recording/reader.ts'
import { type Command, type Invocation, jsonSwitch } from './command.ts'
import { Flags, wholeNumber } from './flags.ts'
import { ProgressLine } from './progress-line.ts'
import { bytesText, countText, timeText } from './quantities.ts'
import { recordLine } from './record-lines.ts'
import { openRecordingFile } from './recording-file.ts'
import { textTable } from './text-table.ts'

export const inspectCommand: Command = {
  name: 'inspect',
  operands: 'FILE.mrec',
  operandsMin: 1,
  operandsMax: 1,
  summary: 'Reads all of a recording and says what is in it; exits with 1 when it is damaged.',
  settings: [],
  switches: [
    { name: 'records', placeholder: 'NUMBER', meaning: 'prints the first records instead' },
    jsonSwitch,
  ],
  examples: ['millrace inspect run.mrec', 'millrace inspect run.mrec --records 3'],
  run,
}

async function run({ flags: values, operands, terminal }: Invocation): Promise<number> {
  const flags = new Flags('inspect', values)
  const first = flags.parsed('records', wholeNumber) ?? 0
  const file = await openRecordingFile(operands[0]!)
  const progress = new ProgressLine(terminal)
  try {
    const size = await file.size()
    const recording = await openRecording(file, { scan: first === 0 })
    if (first > 0) return await printRecords(recording, first, text => terminal.out(text))
    const contents = await inspect(recording, {
      onProgress: bytes => progress.show(() => `${Math.floor((100 * bytes) / size)} %`),
    })
    progress.end()
    const { damage } = contents
    if (flags.has('json')) terminal.out(`${JSON.stringify(reportOf(recording, contents, size))}\n`)
    else terminal.out(describe(recording, contents, size))
    return damage === undefined || damage.isTorn ? 0 : 1
  } finally {
    progress.end()
    await file.close()
  }
}

async function printRecords(
  recording: Recording,
  count: number,
  out: (text: string) => void,
): Promise<number> {
  let left = count
  for (const entry of recording.blocks) {
    if (left === 0) break
    for (const data of await readBlock(recording, entry)) {
      const { name: topic } = recording.header.topics[data.span.topic]!
      for (const run of spanRecords(recording, data)) {
        for (let i = 0; i < run.length && left > 0; i++, left--) {
          out(`${recordLine({ topic, partition: data.span.partition }, run, i)}\n`)
        }
      }
    }
  }
  return 0
}

function reportOf({ header, isComplete, end }: Recording, contents: Contents, sizeBytes: number) {
  const { createdMs, source } = header
  const { damage, ...counted } = contents
  return { createdMs, source, isComplete, sizeBytes, end, ...counted, damage: damage ?? null }
}

function describe(recording: Recording, contents: Contents, sizeBytes: number): string {
  const { header, isComplete } = recording
  const { partitions, codecs, schemaIds, damage } = contents
  const records = partitions.reduce((sum, row) => sum + row.records, 0)
  const bytes = partitions.reduce((sum, row) => sum + row.bytes, 0)
  const since = new Date(header.createdMs).toISOString()
  const lines = [
    `${countText(records)} records of ${header.source.kind}, recorded ${since}`,
    `${bytesText(sizeBytes)} for ${bytesText(bytes)} of batches`,
    '',
    textTable(partitions.map(rowOf)),
    `batches     ${listed(codecs)}`,
    ...Object.entries(schemaIds).map(([topic, ids]) => `schema ids  ${topic}: ${listed(ids)}`),
  ]
  if (damage?.isTorn === true) {
    lines.push(
      `It was interrupted: ${damage.reason} at byte ${damage.position}. What is before it is whole; \`millrace record --resume\` goes on there.`,
    )
  } else if (damage !== undefined) {
    lines.push(
      `DAMAGED at byte ${damage.position}: ${damage.reason}. Counted is what is before it.`,
    )
  } else if (!isComplete) lines.push('It was interrupted, and has no index; all blocks are whole.')
  return `${lines.join('\n')}\n`
}

function rowOf(row: PartitionContents) {
  const { topic, partition, records, from, to, minTimestamp, maxTimestamp } = row
  const time = (ms: number | null) => (ms === null ? '' : timeText(ms))
  const spanMs = maxTimestamp === null ? 0 : maxTimestamp - minTimestamp!
  const rate = spanMs > 0 ? Number(((records / spanMs) * 1000).toPrecision(3)) : ''
  return {
    topic,
    partition,
    records,
    offsets: `${from} to ${to}`,
    'first time': time(minTimestamp),
    'last time': time(maxTimestamp),
    'a second': rate,
  }
}

function listed(counts: Readonly<Record<string, number>>): string {
  const parts = Object.entries(counts).map(([name, count]) => `${name} (${countText(count)})`)
  return parts.join(', ') || 'none'
}
