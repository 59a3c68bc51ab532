import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeEvent, encodeEvent } from '../../contracts/event-codec.ts'
import type { EventRecord } from '../../contracts/event-record.ts'
import { checkEventFields } from '../../contracts/event-rules.ts'
import { eventKeyOf, eventTimeOf, eventTopics, inputTopics } from '../../contracts/topics.ts'
import { validateEventLine } from '../../contracts/validation.ts'
import { anyEvent } from './event-arbitrary.ts'

const nowMs = 1_700_000_100_000
const context = { nowMs, newId: () => 'id-1', source: 'test' }
const value = {
  orderId: 'o-1',
  customerId: 'c-7',
  region: 'eu',
  currency: 'EUR',
  items: [{ sku: 's', category: 'tea', quantity: 2, unitPriceMinor: 450 }],
  totalMinor: 900,
  createdAt: 1_700_000_000_123,
}
const line = {
  topic: 'orders',
  type: 'OrderCreated',
  key: 'o-1',
  timestamp: 1_700_000_000_123,
  value,
}

/** `ok`, or code and detail in one line. */
function verdict(text: string): string {
  const result = validateEventLine(text, context)
  return result.ok ? 'ok' : `${result.code} ${result.detail}`
}

function verdictOf(change: object): string {
  return verdict(JSON.stringify({ ...line, ...change }))
}

function verdictOfValue(change: object): string {
  return verdictOf({ value: { ...value, ...change } })
}

function verdictOfItem(change: object): string {
  return verdictOfValue({ items: [value.items[0], { ...value.items[0], ...change }] })
}

function accepted(change: object): EventRecord {
  const result = validateEventLine(JSON.stringify({ ...line, ...change }), context)
  if (!result.ok) throw new Error(result.detail)
  return result.record
}

function headersOf(record: EventRecord): Record<string, string> {
  return Object.fromEntries(record.headers.map(([name, bytes]) => [name, bytes.toString()]))
}

describe('an event line', () => {
  test('becomes the record it describes, with CloudEvents headers', () => {
    const record = accepted({ headers: { traceparent: '00-x' } })
    expect(record).toMatchObject({ topic: 'orders', timestamp: line.timestamp })
    expect(record.key.toString()).toBe('o-1')
    expect(decodeEvent(record.value)).toEqual({ type: 'OrderCreated', ...value, channel: null })
    expect(headersOf(record)).toEqual({
      ce_id: 'id-1',
      ce_type: 'OrderCreated',
      ce_source: 'test',
      ce_time: '2023-11-14T22:13:20.123Z',
      ce_specversion: '1.0',
      traceparent: '00-x',
    })
  })

  test('keeps the headers it came with', () => {
    const headers = { ce_id: 'mine', ce_source: 'till', ce_time: '1999-01-01T00:00:00Z' }
    expect(headersOf(accepted({ headers }))).toMatchObject(headers)
  })

  test('of any event that keeps the rules is accepted and carries the same event', () => {
    let kept = 0
    fc.assert(
      fc.property(anyEvent, event => {
        const { type, ...fields } = event
        const timestamp = eventTimeOf(event)
        const text = JSON.stringify({
          topic: eventTopics[type],
          type,
          key: eventKeyOf(event),
          timestamp,
          value: fields,
        })
        const breach = checkEventFields(type, fields)
        const result = validateEventLine(text, { ...context, nowMs: 2 ** 52 })
        if (breach === undefined && timestamp <= 2 ** 52) {
          kept += 1
          expect(result.ok && result.record.value).toEqual(encodeEvent(event))
        } else {
          expect(result.ok).toBe(false)
        }
      }),
      { numRuns: 1500, seed: 4 },
    )
    expect(kept).toBeGreaterThan(50)
  })
})

test('an optional field is a text, null or absent', () => {
  const decoded = ({ value }: EventRecord) => decodeEvent(value)
  expect(decoded(accepted({ value: { ...value, channel: 'app' } }))).toMatchObject({
    channel: 'app',
  })
  expect(decoded(accepted({ value: { ...value, channel: null } }))).toMatchObject({ channel: null })
  expect(verdictOfValue({ channel: '' })).toMatch(/^FIELD_INVALID value.channel: .* non-empty text/)
  expect(verdictOfValue({ channel: 3 })).toMatch(/^FIELD_INVALID value.channel/)
})

test('the key is the one of the topic', () => {
  const received = {
    topic: 'stock',
    type: 'StockReceived',
    key: 'tea-01',
    timestamp: 7,
    value: { sku: 'tea-01', quantity: 3, receivedAt: 7 },
  }
  expect(accepted(received).key.toString()).toBe('tea-01')
  expect(verdictOf({ ...received, key: 'o-1' })).toBe(
    'KEY_INVALID key: expected "tea-01", got "o-1"',
  )
})

describe('a line is refused', () => {
  test('when it is not a JSON object', () => {
    expect(verdict('{"topic":')).toMatch(/^JSON_INVALID /)
    expect(verdict('[]')).toBe('JSON_INVALID expected an object, got an array')
    expect(verdict('null')).toBe('JSON_INVALID expected an object, got null')
    expect(verdict('["'.repeat(1000))).toMatch(/^JSON_INVALID /)
    expect(verdict('[1.5,'.repeat(200_000))).toMatch(/^JSON_INVALID /)
    expect(verdict(`${'['.repeat(200_000)}1.5${']'.repeat(200_000)}`)).toMatch(/^JSON_INVALID /)
  })

  test('for an unknown topic, type or member, or a type of another topic', () => {
    expect(verdictOf({ topic: 'order' })).toBe(
      `TOPIC_UNKNOWN topic: expected one of ${inputTopics.join(', ')}, got "order"`,
    )
    expect(verdictOf({ topic: undefined })).toMatch(/^TOPIC_UNKNOWN .* got undefined$/)
    expect(verdictOf({ topic: '__proto__' })).toMatch(/^TOPIC_UNKNOWN /)
    const types = 'OrderCreated, OrderItemsAdded, OrderCancelled'
    const expected = `TYPE_UNKNOWN type: expected one of ${types}, got`
    for (const type of ['ordercreated', 'PaymentAuthorized', 'constructor', '__proto__']) {
      expect(verdictOf({ type })).toBe(`${expected} "${type}"`)
    }
    expect(verdictOf({ type: 3 })).toBe(`${expected} 3`)
    expect(verdictOf({ partition: 0 })).toBe('ENVELOPE_INVALID "partition": unknown member')
    expect(verdictOf({ value: undefined })).toBe('ENVELOPE_INVALID value: missing')
  })

  test('for __proto__ and constructor keys at any depth: they are unknown fields', () => {
    const text = JSON.stringify(line)
    for (const name of ['__proto__', 'constructor', 'toString']) {
      const evil = `"${name}":{"topic":"orders"},`
      expect(verdict(text.replace('{', `{${evil}`))).toBe(
        `ENVELOPE_INVALID "${name}": unknown member`,
      )
      expect(verdict(text.replace('"value":{', `"value":{${evil}`))).toBe(
        `FIELD_UNKNOWN value: OrderCreated has no field "${name}"`,
      )
      expect(verdict(text.replace('"items":[{', `"items":[{${evil}`))).toBe(
        `FIELD_UNKNOWN value.items[0]: OrderItem has no field "${name}"`,
      )
    }
    expect(verdict('{"__proto__":{"topic":"orders","type":"OrderCreated"}}')).toMatch(
      /^ENVELOPE_INVALID/,
    )
    const inherited = '{"__proto__":{"ce_id":"x"}}'
    expect(verdict(text.replace('{', `{"headers":${inherited},`))).toBe(
      'HEADER_INVALID headers.__proto__: expected a text, got an object',
    )
    expect(({} as Record<string, unknown>).ce_id).toBe(undefined)
  })

  test('for a missing field, a wrong type or an empty text', () => {
    expect(verdictOfValue({ region: undefined })).toBe('FIELD_MISSING value.region: missing')
    expect(verdictOfItem({ quantity: undefined })).toBe(
      'FIELD_MISSING value.items[1].quantity: missing',
    )
    const wrongTexts = { '': '""', 5: '5', null: 'null' }
    for (const [region, shown] of Object.entries(wrongTexts)) {
      const sent = region === '' ? '' : JSON.parse(region)
      expect(verdictOfValue({ region: sent })).toBe(
        `FIELD_INVALID value.region: expected a non-empty text, got ${shown}`,
      )
    }
    expect(verdictOfItem({ category: '' })).toMatch(/value\.items\[1\]\.category: .*, got ""$/)
    expect(verdictOfValue({ region: '\ud800' })).toMatch(/well-formed Unicode/)
    expect(verdictOfValue({ items: {} })).toMatch(/value\.items: expected an array, got an object/)
    expect(verdictOfValue({ items: [null] })).toMatch(/value\.items\[0\]: .* got null/)
    expect(verdictOf({ value: [] })).toMatch(/^FIELD_INVALID value: expected an object/)
  })

  test('for quantities below 1 and amounts below 0', () => {
    for (const [quantity, shown] of [
      ['x', '"x"'],
      [0, '0'],
      [-1, '-1'],
      [1.5, '"1.5"'],
      [true, 'true'],
    ] as const) {
      expect(verdictOfItem({ quantity })).toBe(
        `FIELD_INVALID value.items[1].quantity: expected an integer of at least 1, got ${shown}`,
      )
    }
    expect(verdictOfItem({ quantity: 2 ** 31 })).toMatch(/^NUMBER_TOO_LARGE .* at most 2147483647/)
    expect(verdictOfValue({ totalMinor: -1 })).toMatch(/^FIELD_INVALID value.totalMinor: .* 0/)
    expect(verdictOfValue({ totalMinor: 0 })).toBe('ok')
  })

  test('for an integer over 2^53 - 1, although JSON.parse rounds it', () => {
    const withTotal = (text: string) => verdict(JSON.stringify(line).replace('900', text))
    expect(withTotal('9007199254740991')).toBe('ok')
    for (const text of ['9007199254740992', '9007199254740993', '18446744073709551616', '1e400']) {
      expect(withTotal(text)).toMatch(/^(NUMBER_TOO_LARGE|FIELD_INVALID) value\.totalMinor: /)
    }
    fc.assert(
      fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 70n }), integer => {
        expect(withTotal(String(integer))).toMatch(/^NUMBER_TOO_LARGE value\.totalMinor: /)
      }),
      { numRuns: 300, seed: 5 },
    )
  })

  test('for a number that only rounding makes an integer', () => {
    const withTotal = (text: string) => verdict(JSON.stringify(line).replace('900', text))
    expect(withTotal('900.0')).toBe('ok')
    for (const text of ['9007199254740991.4', '1.00000000000000000001', '900.5']) {
      expect(withTotal(text)).toBe(
        `FIELD_INVALID value.totalMinor: expected an integer of at least 0, got "${text}"`,
      )
    }
    expect(verdictOfValue({ region: '1.5e3' })).toBe('ok')
  })

  test('for a key that is not the orderId', () => {
    for (const key of [null, '', 'o-2', 7, undefined]) {
      expect(verdictOf({ key })).toMatch(/^KEY_INVALID key: expected "o-1", got /)
    }
  })

  test("for a timestamp that is missing, negative, in the future or not the event's own", () => {
    const at = (timestamp: unknown, createdAt: unknown) =>
      verdictOf({ timestamp, value: { ...value, createdAt } })
    expect(verdictOf({ timestamp: undefined })).toMatch(/^TIMESTAMP_INVALID .* got undefined$/)
    for (const bad of [-1, '5', 1.5, null, 2 ** 60]) {
      expect(verdictOf({ timestamp: bad })).toMatch(/^TIMESTAMP_INVALID /)
    }
    expect(at(-1, -1)).toMatch(/^FIELD_INVALID value\.createdAt/)
    expect(at(5, 6)).toBe('TIMESTAMP_MISMATCH timestamp: 5, but value.createdAt is 6')
    expect(at(0, 0)).toBe('ok')
    const day = 24 * 60 * 60 * 1000
    expect(at(nowMs + day, nowMs + day)).toBe('ok')
    expect(at(nowMs + day + 1, nowMs + day + 1)).toMatch(/^TIMESTAMP_FUTURE /)
  })

  test('for headers that are not texts', () => {
    expect(verdictOf({ headers: [] })).toMatch(/^HEADER_INVALID headers: expected an object/)
    expect(verdictOf({ headers: null })).toMatch(/^HEADER_INVALID /)
    expect(verdictOf({ headers: { a: 1 } })).toBe(
      'HEADER_INVALID headers.a: expected a text, got 1',
    )
    expect(verdictOf({ headers: { ce_id: '' } })).toMatch(/^HEADER_INVALID headers\.ce_id/)
    expect(verdictOf({ headers: { '': 'x' } })).toMatch(/^HEADER_INVALID /)
  })

  test('when the record is larger than 1 MiB, and shown values stay short', () => {
    const long = 'x'.repeat(1024 * 1024)
    expect(verdictOfValue({ customerId: long })).toMatch(/^RECORD_TOO_LARGE 10\d+ bytes/)
    expect(verdictOf({ headers: { a: long } })).toMatch(/^RECORD_TOO_LARGE /)
    expect(verdictOf({ key: long }).length).toBeLessThan(200)
    expect(verdictOf({ [long]: 1 }).length).toBeLessThan(200)
  })
})
