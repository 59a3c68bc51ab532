/** Every rule of compatibility, at a real registry and in the embedded log's own table alike. */
import { expect, test } from 'vitest'
import { type AvroRecord, parseAvro } from '../../contracts/avro-schema.ts'
import { ContractError } from '../../contracts/errors.ts'
import { type HttpCall, RegistryClient } from '../../contracts/registry-client.ts'
import { type Compatibility, compatibilities } from '../../contracts/schema-registry.ts'
import { SubjectTable } from '../../contracts/subject-table.ts'
import { kafkaIsMissing, ownName, START_MS_MAX, sharedRegistry } from '../support/kafka/shared.ts'

const x = { name: 'x', type: 'string' }
const y = { name: 'y', type: 'string' }
const optional = { name: 'y', type: ['null', 'string'], default: null }
const number = { name: 'y', type: 'long', default: 0 }

/** Versions of an event, one after the other. */
const stories: Readonly<Record<string, readonly (readonly object[])[]>> = {
  'an optional field is added, then is there no more': [[x], [x, optional], [x]],
  'a field that must be there is added': [[x], [x, y]],
  'a field is left out, and comes back as it was': [[x, y], [x], [x, y]],
  'a field is left out, and comes back as another': [[x, optional], [x], [x, number]],
  'an int becomes a long': [[{ name: 'n', type: 'int' }], [{ name: 'n', type: 'long' }]],
  'a long becomes an int': [[{ name: 'n', type: 'long' }], [{ name: 'n', type: 'int' }]],
  'a text becomes a number': [[x], [{ name: 'x', type: 'long' }]],
  'a field is given another name': [
    [x, y],
    [x, { name: 'z', type: 'string' }],
  ],
}

interface Registry {
  setCompatibility(subject: string, rule: Compatibility): unknown
  register(subject: string, schema: AvroRecord): unknown
}

/** Which versions are accepted, and why the others are not. */
async function verdicts(registry: Registry, rule: Compatibility, namespace: string) {
  const reasons: string[] = []
  const found: string[] = []
  for (const [story, versions] of Object.entries(stories)) {
    const name = `T${Object.keys(stories).indexOf(story)}`
    const subject = `${namespace}.${name}`
    await registry.setCompatibility(subject, rule)
    for (const [i, fields] of versions.entries()) {
      const schema = parseAvro({ type: 'record', name, namespace, fields })
      let verdict = 'accepted'
      try {
        await registry.register(subject, schema)
      } catch (error) {
        if (!(error instanceof ContractError) || error.code !== 'SCHEMA_REFUSED') throw error
        verdict = 'refused'
        reasons.push(error.reason)
      }
      found.push(`${story}, version ${i + 1}: ${verdict}`)
    }
  }
  return { found, reasons }
}

function embedded(): Registry {
  const table = new SubjectTable()
  return {
    setCompatibility(subject, rule) {
      const row = table.ruleRow(subject, rule)
      if (row !== undefined) table.apply(row)
    },
    register(subject, schema) {
      const row = table.registration(subject, schema)
      if (typeof row !== 'number') table.apply(row)
    },
  }
}

test.skipIf(kafkaIsMissing !== undefined).each(compatibilities)(
  '%s: both accept and refuse the same',
  async rule => {
    const base = await sharedRegistry()
    const headers = { 'content-type': 'application/vnd.schemaregistry.v1+json' }
    const call: HttpCall = async (method, path, body) => {
      const init = { method, headers, ...(body && { body: JSON.stringify(body) }) }
      const response = await fetch(base + path, init)
      return { status: response.status, text: await response.text() }
    }
    const schedule = (task: () => void, delayMs: number) => {
      const timer = setTimeout(task, delayMs)
      return () => clearTimeout(timer)
    }
    const namespace = ownName('rules').replace('-', '_')
    const real = await verdicts(new RegistryClient({ call, schedule }), rule, namespace)
    const own = await verdicts(embedded(), rule, namespace)
    expect(own.found).toEqual(real.found)
    expect(real.reasons.every(reason => reason.length > 20)).toBe(true)
    expect(real.reasons.length > 0).toBe(rule !== 'NONE')
    for (const reason of own.reasons) expect(reason).toContain(`not ${rule} compatible`)
  },
  START_MS_MAX,
)

test.skipIf(kafkaIsMissing !== undefined)('the stories tell the rules apart', async () => {
  const told = await Promise.all(
    compatibilities.map(async rule => (await verdicts(embedded(), rule, 'a')).found.join('\n')),
  )
  expect(new Set(told).size).toBe(compatibilities.length)
})
