import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeEvent } from '../../contracts/event-codec.ts'
import type { OrderCreated } from '../../contracts/events.ts'
import { flipLastBit, type RawRecord, writeRawRecords } from '../support/poisoned-log.ts'
import { type DeadLetter, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const dayMs = 24 * 60 * 60 * 1000
const startMs = Date.UTC(2026, 0, 5)
const mib = 1024 * 1024
const environment = { VIEW_RETENTION: 'forever', IDLE_AFTER: 'never', LOG_LEVEL: 'warn' }
const closing: (() => Promise<unknown>)[] = []

afterAll(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function scratch(): Promise<string> {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  return path
}

async function start(dataDir: string): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(dataDir, ['--no-demo'], environment)
  closing.push(() => service.kill())
  return service
}

let orders = 0

function order(changes: Partial<OrderCreated> = {}): OrderCreated {
  return {
    type: 'OrderCreated',
    orderId: `order-${orders++}`,
    customerId: 'customer',
    region: 'eu',
    currency: 'EUR',
    items: [{ sku: 'sku', category: 'books', quantity: 1, unitPriceMinor: 500 }],
    totalMinor: 500,
    createdAt: startMs,
    ...changes,
  }
}

type Line = Record<string, unknown> & { value: Record<string, unknown> }

/** A good line, then whatever `change` makes of it. */
function line(change: (line: Line) => void = () => {}, changes: Partial<OrderCreated> = {}) {
  const { type, ...value } = order(changes)
  const made = { topic: 'orders', type, key: value.orderId, timestamp: value.createdAt, value }
  change(made)
  return JSON.stringify(made)
}

interface Answer {
  readonly status: number
  readonly type: string | null
  readonly body: {
    readonly code?: string
    readonly accepted?: number
    readonly rejected?: { line: number; code: string; detail: string }[]
    readonly [member: string]: unknown
  }
}

async function ask(service: ServiceProcess, path: string, request?: RequestInit): Promise<Answer> {
  const response = await fetch(service.url + path, request)
  const type = response.headers.get('content-type')
  return { status: response.status, type, body: (await response.json()) as Answer['body'] }
}

function post(service: ServiceProcess, lines: readonly string[], atomic = false): Promise<Answer> {
  const headers = { 'content-type': 'application/x-ndjson' }
  const body = lines.join('\n')
  return ask(service, `/v1/events?atomic=${atomic}`, { method: 'POST', headers, body })
}

const sum = (rows: readonly Record<string, unknown>[], field: string) =>
  rows.reduce((total, row) => total + (row[field] as number), 0)

/** What is wrong with a line, how it is refused, and what the refusal names. */
const badLines: readonly [what: string, line: string, code: string, detail: RegExp][] = [
  ['no JSON', '{"topic":"orders",', 'JSON_INVALID', /JSON/],
  ['no object', '[1,2]', 'JSON_INVALID', /expected an object/],
  ['unknown topic', line(one => (one.topic = 'refunds')), 'TOPIC_UNKNOWN', /"refunds"/],
  ['a topic of every object', line(one => (one.topic = 'toString')), 'TOPIC_UNKNOWN', /toString/],
  ['unknown type', line(one => (one.type = 'OrderEaten')), 'TYPE_UNKNOWN', /"OrderEaten"/],
  ['type of another topic', line(one => (one.topic = 'payments')), 'TYPE_UNKNOWN', /OrderCreated/],
  ['unknown member', line(one => (one.partition = 3)), 'ENVELOPE_INVALID', /partition/],
  ['unknown field', line(one => (one.value.colour = 'red')), 'FIELD_UNKNOWN', /colour/],
  ['missing field', line(one => delete one.value.region), 'FIELD_MISSING', /value\.region/],
  ['wrong type', line(one => (one.value.totalMinor = '500')), 'FIELD_INVALID', /totalMinor/],
  ['a fraction', line(one => (one.value.totalMinor = 0.5)), 'FIELD_INVALID', /totalMinor/],
  ['a negative amount', line(one => (one.value.totalMinor = -1)), 'FIELD_INVALID', /totalMinor/],
  [
    'an amount of 2^53',
    line().replace('"totalMinor":500', '"totalMinor":9007199254740992'),
    'NUMBER_TOO_LARGE',
    /value\.totalMinor/,
  ],
  [
    'an amount of 1e400',
    line().replace('"totalMinor":500', '"totalMinor":1e400'),
    'FIELD_INVALID',
    /value\.totalMinor/,
  ],
  ['no timestamp', line(one => delete one.timestamp), 'TIMESTAMP_INVALID', /timestamp/],
  ['a negative timestamp', line(one => (one.timestamp = -1)), 'TIMESTAMP_INVALID', /-1/],
  [
    'a timestamp more than a day ahead',
    line(() => {}, { createdAt: Date.now() + dayMs + 3_600_000 }),
    'TIMESTAMP_FUTURE',
    /timestamp/,
  ],
  ['a timestamp of another time', line(one => (one.timestamp = 1)), 'TIMESTAMP_MISMATCH', /: 1,/],
  ['a null key', line(one => (one.key = null)), 'KEY_INVALID', /null/],
  ['no key', line(one => delete one.key), 'KEY_INVALID', /key/],
  ['a header that is no text', line(one => (one.headers = { a: 1 })), 'HEADER_INVALID', /a/],
  [
    'a record over 1 MiB',
    line(() => {}, { customerId: 'x'.repeat(mib) }),
    'RECORD_TOO_LARGE',
    /1048576/,
  ],
  [
    'a line over its bound',
    line(() => {}, { customerId: 'x'.repeat(2 * mib) }),
    'LINE_TOO_LONG',
    /bytes/,
  ],
  [
    '__proto__ beside the members',
    line().replace('{', '{"__proto__":{"topic":"orders"},'),
    'ENVELOPE_INVALID',
    /__proto__/,
  ],
  [
    '__proto__ for the fields',
    line().replace('"value":{', '"value":{"__proto__":{"region":"eu"},'),
    'FIELD_UNKNOWN',
    /__proto__/,
  ],
]

describe('over HTTP', () => {
  let service: ServiceProcess
  let posted = 0

  beforeAll(async () => {
    service = await start(await scratch())
  })

  async function counted(position: unknown): Promise<number> {
    return sum(await service.rows('order-volume', position as string), 'orders')
  }

  test.each(badLines)('%s is refused, and the lines around it are taken', async (...row) => {
    const [, bad, code, detail] = row
    const { status, body } = await post(service, [line(), bad, line()])
    expect(status).toBe(200)
    expect(body.accepted).toBe(2)
    expect(body.rejected).toEqual([{ line: 2, code, detail: expect.stringMatching(detail) }])
    // The refusal is of a length that one can read.
    expect(body.rejected![0]!.detail.length).toBeLessThan(500)
    posted += 2
    expect(await counted(body.position)).toBe(posted)
  })

  test('bad lines alone are a problem that lists each, and nothing is appended', async () => {
    const { status, type, body } = await post(
      service,
      badLines.map(([, bad]) => bad),
    )
    expect(status).toBe(400)
    expect(type).toContain('application/problem+json')
    expect(body).toMatchObject({ code: 'EVENTS_REJECTED', status: 400, accepted: 0 })
    const codes = body.rejected!.map(one => [one.line, one.code])
    expect(codes).toEqual(badLines.map(([, , code], i) => [i + 1, code]))
    expect(await counted(body.position)).toBe(posted)
  })

  test('atomic: one bad line refuses all, and the same lines without it are taken', async () => {
    const good = Array.from({ length: 50 }, () => line())
    const refused = await post(service, [...good, badLines[0]![1]], true)
    expect(refused.status).toBe(400)
    expect(refused.body).toMatchObject({ code: 'EVENTS_REJECTED', accepted: 0 })
    expect(refused.body.rejected).toMatchObject([{ line: 51, code: 'JSON_INVALID' }])
    expect(await counted(refused.body.position)).toBe(posted)
    const taken = await post(service, good, true)
    expect(taken.body.accepted).toBe(50)
    posted += 50
    expect(await counted(taken.body.position)).toBe(posted)
  })

  test('__proto__ as the name of a customer, currency or category is a name', async () => {
    const name = '__proto__'
    const items = [{ sku: name, category: name, quantity: 2, unitPriceMinor: 5 }]
    const odd = { customerId: name, currency: name, region: name, items, totalMinor: 10 }
    const { body } = await post(service, [line(() => {}, odd), line(() => {}, odd)])
    posted += 2
    const headers = { 'millrace-position': body.position as string }
    const found = await ask(service, '/v1/views/customer-profile/rows/__proto__', { headers })
    expect(found.body.row).toMatchObject({ customerId: name, orders: 2, favouriteCategory: name })
    const spend = (found.body.row as { spendMinor: object }).spendMinor
    expect(Object.entries(spend)).toEqual([[name, 20]])
    expect(await counted(body.position)).toBe(posted)
  })

  const rows = '/v1/views/order-volume/rows'
  const badQueries: readonly [path: string, status: number, code: string, parameter?: string][] = [
    [`${rows}?from=2&to=1`, 400, 'QUERY_INVALID', 'from'],
    [`${rows}?from=1e400`, 400, 'QUERY_INVALID', 'from'],
    [`${rows}?to=NaN`, 400, 'QUERY_INVALID', 'to'],
    [`${rows}?to=Infinity`, 400, 'QUERY_INVALID', 'to'],
    [`${rows}?from=-1`, 400, 'QUERY_INVALID', 'from'],
    [`${rows}?from=9007199254740993`, 400, 'QUERY_INVALID', 'from'],
    [`${rows}?from=300000-01-01T00:00:00Z`, 400, 'QUERY_INVALID', 'from'],
    [`${rows}?to=%2B300000-01-01T00:00:00Z`, 400, 'QUERY_INVALID', 'to'],
    [`${rows}?from=2026-02-31`, 400, 'QUERY_INVALID', 'from'],
    [`${rows}?limit=0`, 400, 'QUERY_INVALID', 'limit'],
    [`${rows}?limit=1001`, 400, 'QUERY_INVALID', 'limit'],
    [`${rows}?limit=1e9`, 400, 'QUERY_INVALID', 'limit'],
    [`${rows}?limit=1000000000`, 400, 'QUERY_INVALID', 'limit'],
    [`${rows}?limit=`, 400, 'QUERY_INVALID', 'limit'],
    [`${rows}?timeout=1e9`, 400, 'QUERY_INVALID', 'timeout'],
    [`${rows}?colour=red`, 400, 'QUERY_INVALID', 'colour'],
    [`${rows}?__proto__=x`, 400, 'QUERY_INVALID', '__proto__'],
    [`${rows}?cursor=`, 400, 'QUERY_INVALID', 'cursor'],
    [`${rows}?cursor=bm9uc2Vuc2U`, 400, 'CURSOR_INVALID'],
    ['/v1/dead-letters?cursor=bm9uc2Vuc2U', 400, 'CURSOR_INVALID'],
    ['/v1/dead-letters?limit=1001', 400, 'QUERY_INVALID', 'limit'],
    ['/v1/views/customer-profile/rows?from=0', 400, 'QUERY_INVALID', 'from'],
    ['/v1/views/order-volume/rows/eu', 400, 'VIEW_NOT_TABLE'],
    ['/v1/views/nothing/rows', 404, 'VIEW_UNKNOWN'],
    ['/v1/views/__proto__/rows', 404, 'VIEW_UNKNOWN'],
    ['/v1/views/constructor', 404, 'VIEW_UNKNOWN'],
    ['/v1/nothing', 404, 'ROUTE_UNKNOWN'],
  ]

  test.each(badQueries)('%s is a problem', async (path, status, code, parameter) => {
    const answer = await ask(service, path)
    expect(answer.type).toContain('application/problem+json')
    expect(answer.body).toMatchObject({ status, code, title: expect.any(String) })
    expect(answer.status).toBe(status)
    if (parameter !== undefined) expect(answer.body.parameter).toBe(parameter)
  })

  test('ranges that are merely wide or empty have an answer', async () => {
    const wide = await ask(service, `${rows}?from=0&to=9007199254740991`)
    expect(sum(wide.body.rows as Record<string, unknown>[], 'orders')).toBe(posted)
    const empty = await ask(service, `${rows}?from=9007199254740991&to=9007199254740991`)
    expect(empty.body).toMatchObject({ rows: [], next: null })
  })

  test('a cursor of other filters or of another view is refused', async () => {
    await post(service, [line(() => {}, { createdAt: startMs + 60_000 })])
    posted++
    const { body } = await ask(service, `${rows}?limit=1`)
    expect(body.next).toEqual(expect.any(String))
    expect((await ask(service, `${rows}?limit=1&cursor=${body.next}`)).status).toBe(200)
    for (const other of [`${rows}?region=eu`, `${rows}?from=0`, '/v1/views/revenue/rows?limit=1']) {
      const refused = await ask(service, `${other}&cursor=${body.next}`)
      expect(refused.body.code, other).toBe('CURSOR_INVALID')
    }
  })

  test('a position that is none is refused, one of another log too', async () => {
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const bad: [position: string, status: number, code: string][] = [
      ['nonsense', 400, 'POSITION_INVALID'],
      [encode(['x']), 400, 'POSITION_INVALID'],
      [encode({ __proto__: null }), 400, 'POSITION_INVALID'],
      [encode(['0123456789abcdef', { orders: [1e9, 0, 0, 0] }]), 409, 'POSITION_LOST'],
    ]
    for (const [position, status, code] of bad) {
      const headers = { 'millrace-position': position }
      const answer = await ask(service, rows, { headers })
      expect([answer.status, answer.body.code], position).toEqual([status, code])
    }
  })

  test('after all that it lives and has counted every good line once', async () => {
    expect((await ask(service, '/livez')).status).toBe(200)
    expect((await ask(service, '/readyz')).status).toBe(200)
    const { body } = await post(service, [line()])
    expect(await counted(body.position)).toBe(++posted)
    expect(await service.deadLetters(body.position as string)).toEqual([])
    expect(service.stderr).toBe('')
  })
})

/** Records of partition 0 of `orders`, and the reason for which each is put aside. */
interface LoggedRecord extends RawRecord {
  readonly reason?: string
  readonly detail?: RegExp
}

function logged(parts: Partial<LoggedRecord> & { event?: Partial<OrderCreated> } = {}) {
  const { event, ...rest } = parts
  const made = order(event)
  const record = { key: Buffer.from(made.orderId), value: encodeEvent(made), timestamp: startMs }
  return { ...record, ...rest } satisfies LoggedRecord
}

const whole = encodeEvent(order())
const poison = (value: Buffer, detail: RegExp) => logged({ value, reason: 'poison', detail })

/** The header says that the batch has three records more. */
function growDelta(batch: Buffer): Buffer {
  batch.writeInt32BE(batch.readInt32BE(23) + 3, 23)
  return batch
}

describe('in the log itself', () => {
  const records: readonly LoggedRecord[] = [
    logged(),
    poison(Buffer.alloc(0), /0 bytes/),
    poison(Buffer.from('{"orderId":"1"}'), /magic byte 123/),
    poison(Buffer.concat([Buffer.of(0, 0, 0, 0xff, 0xff), whole.subarray(5)]), /id 65535/),
    poison(whole.subarray(0, -4), /ends too early/),
    poison(Buffer.concat([whole, Buffer.from('more')]), /4 bytes/),
    poison(Buffer.concat([whole.subarray(0, 5), Buffer.alloc(40, 0xff)]), /./),
    logged({ timestamp: -5, reason: 'poison', detail: /-5 is missing or negative/ }),
    logged({ timestamp: Date.now() + 3 * dayMs, reason: 'poison', detail: /day ahead/ }),
    logged({ damage: flipLastBit, reason: 'poison', detail: /corrupt/ }),
    logged(),
    logged({ key: null, reason: 'poison', detail: /key is null/ }),
    logged({ key: Buffer.of(0xff, 0xfe), reason: 'poison', detail: /not the orderId/ }),
    logged({ damage: () => Buffer.from('no batch'), reason: 'poison', detail: /batch/ }),
    logged(),
    logged(),
    logged({ damage: batch => batch.subarray(0, -9), reason: 'poison', detail: /batch/ }),
    logged(),
    logged(),
    logged({ damage: growDelta, reason: 'poison', detail: /batch/ }),
    logged(),
    logged(),
    logged({ damage: batch => batch.fill(0), reason: 'poison', detail: /./ }),
    logged(),
    logged(),
    logged(),
  ]
  const good = records.filter(({ reason }) => reason === undefined).length

  const placed = ({ topic, partition, offset, reason }: DeadLetter) =>
    `${topic}/${partition}/${offset} ${reason}`

  test('each bad record is a dead letter with its place, and those after it count', async () => {
    const dataDir = await scratch()
    await writeRawRecords(dataDir, 'orders', records)
    let service = await start(dataDir)
    const { body } = await post(service, [line()])
    const position = body.position as string
    const letters = await service.deadLetters(position)
    const expected = records.flatMap(({ reason }, offset) =>
      reason === undefined ? [] : [`orders/0/${offset} ${reason}`],
    )
    expect(letters.map(placed).sort()).toEqual(expected.sort())
    for (const [offset, { reason, detail, value }] of records.entries()) {
      if (reason === undefined) continue
      const [letter, ...more] = letters.filter(one => one.offset === offset)
      expect(more, `offset ${offset}`).toEqual([])
      expect(letter!.detail).toMatch(detail!)
      if (/the key is/.test(letter!.detail)) expect(letter!.step).toBe('orders-checked')
      else expect(letter!.step).toBe('orders')
      if (letter!.valueBase64 === undefined || records[offset]!.damage !== undefined) continue
      expect(letter!.valueBase64).toBe(value!.toString('base64'))
    }
    // Records in = applied + dead-lettered.
    expect(sum(await service.rows('order-volume', position), 'orders')).toBe(good + 1)
    expect((await ask(service, '/readyz')).status).toBe(200)

    await service.kill()
    service = await start(dataDir)
    const next = await post(service, [line()])
    const after = next.body.position as string
    expect(await service.deadLetters(after)).toEqual(letters)
    expect(sum(await service.rows('order-volume', after), 'orders')).toBe(good + 2)
  })

  test('a sum beyond 2^53 - 1 puts the record aside and is never rounded', async () => {
    const max = Number.MAX_SAFE_INTEGER
    const service = await start(await scratch())
    const amounts = [max - 10, 11, 10]
    const { body } = await post(
      service,
      amounts.map(totalMinor => line(() => {}, { orderId: `big-${totalMinor}`, totalMinor })),
    )
    expect(body.accepted).toBe(3)
    const position = body.position as string
    const letters = await service.deadLetters(position)
    expect(new Set(letters.map(letter => letter.reason))).toEqual(new Set(['overflow']))
    expect(new Set(letters.map(letter => (letter.value as OrderCreated).totalMinor)).size).toBe(1)
    expect(letters.map(letter => letter.step).sort()).toEqual([
      'customer-profile',
      'customer-sessions',
      'order-volume',
    ])
    // Partitions run beside each other, so which two of the three fit is a matter of order.
    const [aside] = letters.map(letter => (letter.value as OrderCreated).totalMinor)
    const left = amounts.filter(amount => amount !== aside).reduce((a, b) => a + b, 0)
    const [volume] = await service.rows('order-volume', position)
    expect(volume).toMatchObject({ orders: 2, grossMinor: left })
    const [profile] = await service.rows('customer-profile', position)
    expect(profile).toMatchObject({ orders: 2, spendMinor: { EUR: left } })
    expect(service.stderr).toBe('')
  })
})
