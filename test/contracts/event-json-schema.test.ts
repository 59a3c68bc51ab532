import fc from 'fast-check'
import Schema from 'typebox/schema'
import { expect, test } from 'vitest'
import { eventJsonSchema } from '../../contracts/event-json-schema.ts'
import { checkEventFields } from '../../contracts/event-rules.ts'
import type { EventType } from '../../contracts/events.ts'
import { eventSchemas } from '../../contracts/schemas.ts'
import { anyEvent } from './event-arbitrary.ts'

const types = Object.keys(eventSchemas) as EventType[]
const compiled = new Map(types.map(type => [type, Schema.Compile(eventJsonSchema(type))]))

function bothSay(type: EventType, value: unknown): boolean[] {
  return [compiled.get(type)!.Check(value), checkEventFields(type, value) === undefined]
}

test('the schema takes an event exactly where the rules do', () => {
  const strange = fc.oneof(
    fc.constantFrom(null, '', 0, -1, 1.5, 2 ** 53, 2 ** 31, true, 'x', {}),
    fc.constant([]),
  )
  const changed = fc.tuple(anyEvent, fc.nat(20), strange, fc.constantFrom('set', 'cut', 'add', ''))
  let taken = 0
  fc.assert(
    fc.property(changed, ([{ type, ...event }, at, value, how]) => {
      const fields: Record<string, unknown> = { ...event }
      const name = Object.keys(fields)[at % Object.keys(fields).length]!
      if (how === 'set') fields[name] = value
      if (how === 'cut') delete fields[name]
      if (how === 'add') fields.surprise = value
      // Lone surrogates are beyond JSON Schema; texts of the generator may have them.
      fc.pre(JSON.stringify(fields).isWellFormed() && !/\\ud[89a-f]/.test(JSON.stringify(fields)))
      const [schema, rules] = bothSay(type, fields)
      taken += rules ? 1 : 0
      expect([schema, fields]).toEqual([rules, fields])
    }),
    { numRuns: 3000 },
  )
  expect(taken).toBeGreaterThan(100)
})

test('times and money say what they are', () => {
  expect(eventJsonSchema('PaymentAuthorized')).toMatchObject({
    required: ['paymentId', 'orderId', 'amountMinor', 'currency', 'method', 'authorizedAt'],
    properties: {
      amountMinor: { type: 'integer', maximum: 2 ** 53 - 1, description: expect.any(String) },
      authorizedAt: { description: 'Epoch milliseconds, UTC.' },
    },
  })
})
