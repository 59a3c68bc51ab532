/** Every command to orders with every kind of bad input: a clear problem, and nothing appended. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { commandBytesMax } from '../../contracts/order-commands.ts'
import { mug, placed } from '../support/orders-client.ts'
import { OrdersService } from '../support/orders-service.ts'

type Fields = Record<string, unknown>

interface Command {
  readonly name: string
  readonly path: (order: string) => string
  /** A body that is good. */
  readonly body: Fields
}

const commands: readonly Command[] = [
  { name: 'place', path: () => '/v1/orders', body: placed },
  { name: 'add items', path: order => `/v1/orders/${order}/items`, body: { items: [mug] } },
  { name: 'cancel', path: order => `/v1/orders/${order}/cancel`, body: { reason: 'no' } },
]
const toOrders = commands.filter(({ name }) => name !== 'place')
const withItems = commands.filter(({ name }) => name !== 'cancel')

/** A request that is bad, and how it is refused: status, code, and what the detail names. */
interface Bad {
  readonly what: string
  readonly command: Command
  readonly body?: unknown
  readonly raw?: string | Uint8Array<ArrayBuffer> | ReadableStream
  readonly headers?: Readonly<Record<string, string>>
  readonly path?: string
  readonly refused: readonly [status: number, code: string, detail: string | RegExp]
}

const invalid = (detail: string | RegExp) => [400, 'COMMAND_INVALID', detail] as const
const bad: Bad[] = []
const bytes = (...codes: number[]) => new Uint8Array(codes)

function streamed(text: string): ReadableStream {
  const chunk = new TextEncoder().encode(text)
  return new ReadableStream({
    start(controller) {
      controller.enqueue(chunk)
      controller.enqueue(chunk)
      controller.close()
    },
  })
}

// Bodies that are no object of JSON.
const noObjects: readonly (readonly [string, Bad['raw'], RegExp])[] = [
  ['no body', '', /expected a JSON object/],
  ['half an object', '{"items":', /not well-formed JSON/],
  ['two objects', '{}{}', /not well-formed JSON/],
  ['NaN', '{"totalMinor":NaN}', /not well-formed JSON/],
  ['broken UTF-8', bytes(0x22, 0xff, 0xfe, 0x22), /not well-formed JSON in UTF-8/],
  ['zeros', bytes(0, 0, 0, 0), /not well-formed JSON/],
  ['30,000 brackets', '['.repeat(30_000), /not well-formed JSON/],
  ['an array', '[]', /expected an object/],
  ['null', 'null', /expected an object/],
  ['a number', '1', /expected an object/],
  ['a text', '"{}"', /expected an object/],
]

// Headers and paths that are wrong for any command.
const wrongHeaders: readonly (readonly [string, Record<string, string>, Bad['refused']])[] = [
  ['text', { 'content-type': 'text/plain' }, [415, 'MEDIA_TYPE_REFUSED', 'application/json']],
  ['lines', { 'content-type': 'application/x-ndjson' }, [415, 'MEDIA_TYPE_REFUSED', 'json']],
  ['a form', { 'content-type': 'multipart/form-data' }, [415, 'MEDIA_TYPE_REFUSED', 'json']],
  ['a key with a space', { 'Idempotency-Key': 'a b' }, invalid('Idempotency-Key')],
  ['a key of nothing', { 'Idempotency-Key': '' }, invalid('Idempotency-Key')],
  ['a key that is not ASCII', { 'Idempotency-Key': 'é' }, invalid('Idempotency-Key')],
  ['a key of 256', { 'Idempotency-Key': 'k'.repeat(256) }, invalid('1 to 255')],
  ['a position of nothing', { 'Millrace-Position': '' }, [400, 'POSITION_INVALID', 'position']],
  ['no position', { 'Millrace-Position': 'nonsense' }, [400, 'POSITION_INVALID', 'position']],
]
const wrongVersions = ['', '1', 'W/"1"', '"-1"', '"01"', '"x"', '"1", "2"', `"${'9'.repeat(10)}"`]
const wrongTexts = [null, '', 1, true, [], {}, '\ud800']
const wrongItems: readonly (readonly [string, Fields, string])[] = [
  ['no quantity', { quantity: undefined }, 'quantity: missing'],
  ['quantity 0', { quantity: 0 }, 'quantity: expected an integer of at least 1, got 0'],
  ['quantity -1', { quantity: -1 }, 'quantity: expected an integer of at least 1, got -1'],
  ['quantity 1.5', { quantity: 1.5 }, 'quantity: expected an integer'],
  ['quantity 2^31', { quantity: 2 ** 31 }, 'quantity: expected an integer of at most 2147483647'],
  ['quantity as text', { quantity: '1' }, 'quantity: expected an integer'],
  ['no price', { unitPriceMinor: undefined }, 'unitPriceMinor: missing'],
  ['price -1', { unitPriceMinor: -1 }, 'unitPriceMinor: expected an integer of at least 0'],
  ['price 0.5', { unitPriceMinor: 0.5 }, 'unitPriceMinor: expected an integer'],
  ['price null', { unitPriceMinor: null }, 'unitPriceMinor: expected an integer'],
  [
    'price 2^53',
    { unitPriceMinor: 2 ** 53 },
    'unitPriceMinor: expected an integer of at most 2^53',
  ],
  ['no sku', { sku: undefined }, 'sku: missing'],
  ['sku of nothing', { sku: '' }, 'sku: expected a non-empty text'],
  ['a category that is none', { category: 7 }, 'category: expected a non-empty text'],
  ['a field too much', { colour: 'red' }, 'has no field "colour"'],
  [
    'a sum above 2^53',
    { quantity: 2 ** 31 - 1, unitPriceMinor: Number.MAX_SAFE_INTEGER },
    'their sum is above 2^53 - 1',
  ],
]

for (const command of commands) {
  for (const [what, raw, detail] of noObjects) {
    bad.push({ what, command, raw, refused: invalid(detail) })
  }
  for (const [what, headers, refused] of wrongHeaders) bad.push({ what, command, headers, refused })
  const { body } = command
  const ofBody = (what: string, changes: Fields, detail: string) =>
    bad.push({ what, command, body: { ...body, ...changes }, refused: invalid(detail) })
  ofBody('a field too much', { colour: 'red' }, 'has no field "colour"')
  ofBody('an order', { orderId: 'mine' }, 'has no field "orderId"')
  const proto = JSON.stringify(body).replace('{', '{"__proto__":{"a":1},')
  bad.push({ what: '__proto__', command, raw: proto, refused: invalid('"__proto__"') })
  for (const name of Object.keys(body)) {
    ofBody(`no ${name}`, { [name]: undefined }, `body.${name}: missing`)
    for (const value of name === 'items' ? [null, 'mug', {}, 1] : wrongTexts) {
      ofBody(`${name} ${JSON.stringify(value)}`, { [name]: value }, `body.${name}: expected`)
    }
  }
  const large = ' '.repeat(commandBytesMax + 1)
  const tooLarge = [413, 'BODY_TOO_LARGE', `${commandBytesMax}`] as const
  bad.push({ what: 'a large body', command, raw: large, refused: tooLarge })
  const raw = streamed(' '.repeat(commandBytesMax))
  bad.push({ what: 'a large body of no length', command, raw, refused: tooLarge })
  for (const [what, search, parameter] of [
    ['a parameter', '?colour=red', 'colour'],
    ['a wait that is none', '?timeout=soon', 'timeout'],
    ['a wait that is too long', '?timeout=60001', 'timeout'],
  ] as const) {
    const path = command.path('o') + search
    bad.push({ what, command, path, refused: [400, 'QUERY_INVALID', parameter] })
  }
}

for (const command of withItems) {
  const ofItems = (what: string, items: unknown[], detail: string) => {
    bad.push({ what, command, body: { ...command.body, items }, refused: invalid(detail) })
  }
  ofItems('no item', [], 'expected at least one item')
  ofItems('an item that is none', [mug, 'mug'], 'body.items[1]: expected an object')
  for (const [what, changes, detail] of wrongItems) ofItems(what, [{ ...mug, ...changes }], detail)
  const huge = JSON.stringify({ ...command.body, items: [mug] }).replace(':500', ':1e400')
  bad.push({ what: 'a price of 1e400', command, raw: huge, refused: invalid('unitPriceMinor') })
}

const [place] = commands
for (const [what, changes, detail] of [
  ['total -1', { totalMinor: -1 }, 'body.totalMinor: expected an integer of at least 0'],
  ['total as text', { totalMinor: '1000' }, 'body.totalMinor: expected an integer'],
  ['total 2^53', { totalMinor: 2 ** 53 }, 'body.totalMinor: expected an integer of at most 2^53'],
  ['currency euro', { currency: 'euro' }, 'body.currency: expected three capital letters'],
  ['currency eur', { currency: 'eur' }, 'body.currency: expected three capital letters'],
  ['a channel of nothing', { channel: '' }, 'body.channel: expected a non-empty text'],
] as const) {
  bad.push({ what, command: place!, body: { ...placed, ...changes }, refused: invalid(detail) })
}
for (const version of ['"1"', ...wrongVersions]) {
  const headers = { 'If-Match': version }
  bad.push({ what: `If-Match ${version}`, command: place!, headers, refused: invalid('If-Match') })
}
for (const command of toOrders) {
  for (const version of wrongVersions) {
    const headers = { 'If-Match': version }
    bad.push({ what: `If-Match ${version}`, command, headers, refused: invalid('If-Match') })
  }
  for (const [what, order, refused] of [
    ['a control character', '%00', invalid('the path')],
    ['an order of 256', 'o'.repeat(256), invalid('1 to 255')],
    ['broken percent-encoding', '%zz', [400, 'REQUEST_MALFORMED', /./]],
    ['no order', '', invalid('the path')],
  ] as const) {
    bad.push({ what, command, path: command.path(order), refused })
  }
}

let service: OrdersService
beforeAll(async () => {
  service = await OrdersService.open()
})
afterAll(() => service.close())

async function send({ command, body = command.body, raw, headers = {}, path }: Bad) {
  const all = { authorization: 'Bearer write', 'content-type': 'application/json', ...headers }
  const init = { method: 'POST', headers: all, body: raw ?? JSON.stringify(body), duplex: 'half' }
  const response = await fetch(service.address + (path ?? command.path('o')), init as RequestInit)
  const problem = (await response.json()) as Fields
  return { status: response.status, type: response.headers.get('content-type'), problem }
}

describe.each(commands)('$name', command => {
  const own = bad.filter(one => one.command === command)
  test.each(own)('$what is a clear problem, and nothing is appended', async one => {
    const before = await service.ends()
    const { status, type, problem } = await send(one)
    const [wanted, code, detail] = one.refused
    expect([status, problem.code, problem.status]).toEqual([wanted, code, wanted])
    expect(type).toContain('application/problem+json')
    expect(problem).toMatchObject({ title: expect.any(String), type: `urn:millrace:error:${code}` })
    if (typeof detail === 'string') expect(problem.detail).toContain(detail)
    else expect(problem.detail).toMatch(detail)
    expect(String(problem.detail).length).toBeLessThan(300)
    expect(await service.ends()).toEqual(before)
  })
})

/** How many commands there are, and how much in all other topics. */
async function told() {
  const { 'order-commands': asked, ...ends } = await service.ends()
  return { asked: asked!, events: ends }
}

/** Good commands, to orders that do not take them: that is decided where the order is. */
describe.each(toOrders)('$name, to an order', ({ path, body }) => {
  const post = (order: string, headers: Record<string, string> = {}, other: Fields = body) =>
    service.client.post(path(order), other, headers)

  async function placeOrder(): Promise<string> {
    const { body } = await service.client.post('/v1/orders', placed)
    return String(body.orderId)
  }

  async function refusal(order: string, headers: Record<string, string>) {
    const before = await told()
    const answer = await post(order, headers)
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
    const { asked, events } = await told()
    expect(events).toEqual(before.events)
    expect(asked).toBe(before.asked + 1)
    return { status: answer.status, ...answer.body }
  }

  test('that is not there: refused, and no event is appended', async () => {
    const refused = await refusal('nobody', {})
    expect(refused).toMatchObject({ status: 404, code: 'ORDER_UNKNOWN' })
    expect(refused).toHaveProperty('detail', 'There is no order nobody.')
  })

  test('that is cancelled: refused, and no event is appended', async () => {
    const order = await placeOrder()
    await service.client.post(`/v1/orders/${order}/cancel`, { reason: 'no' })
    const refused = await refusal(order, {})
    expect(refused).toMatchObject({ status: 409, code: 'ORDER_CLOSED', version: 2 })
    expect(refused).toHaveProperty('detail', expect.stringContaining(`${order} is cancelled`))
  })

  test('that has changed meanwhile: refused, and no event is appended', async () => {
    const order = await placeOrder()
    for (const version of ['"0"', '"2"', '"999999999"']) {
      const refused = await refusal(order, { 'If-Match': version })
      expect(refused).toMatchObject({ status: 412, code: 'ORDER_CHANGED', version: 1 })
      expect(refused).toHaveProperty('detail', expect.stringContaining('has version 1'))
    }
  })

  test('under a key that was used for another: refused, and nothing is appended', async () => {
    const order = await placeOrder()
    const key = { 'Idempotency-Key': 'once' }
    const other = 'items' in body ? { items: [mug, mug] } : { reason: 'other' }
    expect((await post(order, key)).status).toBe(200)
    const before = await service.ends()
    for (const [headers, fields] of [
      [key, other],
      [{ ...key, 'If-Match': '"2"' }, body],
    ] as const) {
      const answer = await post(order, headers, fields)
      expect([answer.status, answer.body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
    }
    expect(await service.ends()).toEqual(before)
  })
})
