/**
 * `docs/EVENTS.md`, from the schemas of the events and the topologies of the applications. Run with
 * `--write` (npm run docs:events) to write the page anew.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { consumersOf, producersOf } from '../../api/index.ts'
import { allApplications } from '../../cli/applications.ts'
import { eventFlow } from '../../cli/event-flow.ts'
import { type AvroField, type AvroType, isRecord, nameOf } from '../../contracts/avro-schema.ts'
import { eventJsonSchema } from '../../contracts/event-json-schema.ts'
import type { EventType } from '../../contracts/events.ts'
import { subjectOf } from '../../contracts/schema-registry.ts'
import { eventSchemas, type SchemaVersion, schemaHistory } from '../../contracts/schemas.ts'
import { eventTopics, inputTopics, keyFieldOf, timeFields } from '../../contracts/topics.ts'
import { upcasts } from '../../contracts/upcasts.ts'
import { root } from './processes.ts'

export const eventsPagePath = join(root, 'docs/EVENTS.md')

const flow = eventFlow(allApplications({ viewRetention: Number.POSITIVE_INFINITY }))
const types = Object.keys(timeFields) as EventType[]

const introduction = `# Events

Every event, its versions, who writes it and who reads it. \`npm run docs:events\` writes this page
from \`contracts/schemas/\` and the topologies of the applications; a test compares the two. The same
as AsyncAPI 3 is at \`/asyncapi.json\`, of what runs in that instance. Whoever has the right appends
events of all types with \`POST /v1/events\`; the demo does so with what customers do. How schemas
change, and which events carry the state: [contracts](../contracts/README.md).
`

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

const code = (text: string) => `\`${text}\``
const list = (names: readonly string[]) => names.map(code).join(', ') || '–'

function overview(topic: (typeof inputTopics)[number]): string {
  const its = types.filter(type => eventTopics[type] === topic)
  const rows = its.map(type => {
    const versions = schemaHistory.filter(one => one.type === type)
    return row([
      `[${type}](#${type.toLowerCase()})`,
      String(versions.length),
      list(producersOf(flow, type)),
      list(consumersOf(flow, type)),
    ])
  })
  const head = [row(['event', 'versions', 'producers', 'consumers']), row(Array(4).fill('---'))]
  return [`## ${code(topic)}, by ${code(keyFieldOf(topic))}`, '', ...head, ...rows].join('\n')
}

function section(type: EventType): string {
  const schema = eventSchemas[type]
  const described = eventJsonSchema(type).properties as Record<string, { description?: string }>
  const fields = schema.fields.map(field => {
    const notes = [described[field.name]?.description, field.doc].filter(note => note !== undefined)
    if (field.name === timeFields[type]) notes.unshift('Event time.')
    return row([code(field.name), typeName(field.type), notes.join(' ')])
  })
  const versions = schemaHistory.filter(one => one.type === type)
  return [
    `### ${type}`,
    '',
    `Subject ${code(subjectOf(schema))}.`,
    '',
    row(['field', 'type', 'meaning']),
    row(['---', '---', '---']),
    ...fields,
    '',
    ...versions.map((version, at) => `- ${change(version, versions[at - 1])}`),
  ].join('\n')
}

function typeName(type: AvroType): string {
  if (typeof type === 'object' && 'items' in type) {
    const { items } = type
    if (!isRecord(items)) return `array of ${typeName(items)}`
    const fields = items.fields.map(field => `${field.name}: ${typeName(field.type)}`)
    return `array of ${items.name} {${fields.join(', ')}}`
  }
  if (Array.isArray(type)) return type.map(typeName).join(' or ')
  return nameOf(type)
}

/** What a version has and the one before has not. */
function change({ type, version, id, schema }: SchemaVersion, before?: SchemaVersion): string {
  const head = `version ${version}, fixed id ${id}`
  if (before === undefined) return head
  const names = (fields: readonly AvroField[]) => fields.map(({ name }) => name)
  const [now, then] = [names(schema.fields), names(before.schema.fields)]
  const added = now.filter(name => !then.includes(name))
  const removed = then.filter(name => !now.includes(name))
  const told = added.map(name => {
    const upcast = upcasts[type]?.[name]
    const older = upcast ? ` (of older events it follows from ${list(upcast.from)})` : ''
    return `adds ${code(name)}${older}`
  })
  return [head, ...told, ...removed.map(name => `drops ${code(name)}`)].join(': ')
}

export function renderEventsPage(): string {
  const parts = [introduction, ...inputTopics.map(topic => `${overview(topic)}\n`)]
  return `${[...parts, '## Fields\n', ...types.map(type => `${section(type)}\n`)].join('\n')}`
}

if (process.argv[1] === import.meta.filename && process.argv.includes('--write')) {
  writeFileSync(eventsPagePath, renderEventsPage())
}
