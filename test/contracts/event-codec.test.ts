import avro from 'avsc'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ContractError } from '../../contracts/errors.ts'
import { decodeEvent, encodeEvent, eventCodec } from '../../contracts/event-codec.ts'
import type { BusinessEvent, EventType, OrderCreated } from '../../contracts/events.ts'
import { eventSchemas, fixedSchemas, schemaHistory } from '../../contracts/schemas.ts'
import { anyEvent } from './event-arbitrary.ts'

const avscTypes = new Map(
  Object.entries(eventSchemas).map(([type, schema]) => [
    type as EventType,
    avro.Type.forSchema(schema as unknown as avro.Schema),
  ]),
)

const order: OrderCreated = {
  type: 'OrderCreated',
  orderId: 'o-1',
  customerId: 'c-7',
  region: 'eu-west',
  currency: 'EUR',
  items: [
    { sku: 'tea-01', category: 'tea', quantity: 2, unitPriceMinor: 450 },
    { sku: 'müsli', category: 'food', quantity: 1, unitPriceMinor: 2 ** 40 },
  ],
  totalMinor: 1350,
  createdAt: 1_700_000_000_123,
  channel: 'web',
}

/** The fields of `order` up to its time: all that it had in its first version. */
const goldenFields = [
  '066f2d31',
  '06632d37',
  '0e65752d77657374',
  '06455552',
  '04',
  '0c7465612d3031',
  '06746561',
  '04',
  '8407',
  '0c6dc3bc736c69',
  '08666f6f64',
  '02',
  '808080808040',
  '00',
  '8c15',
  'f6a1abfef962',
].join('')

/** The bytes of `event` as another library writes them. */
function framedByAvsc(event: BusinessEvent): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(fixedSchemas.current(event.type).id, 1)
  return Buffer.concat([head, avscTypes.get(event.type)!.toBuffer(event)])
}

function refusal(bytes: Buffer): ContractError {
  try {
    decodeEvent(bytes)
  } catch (error) {
    if (error instanceof ContractError) return error
    throw error
  }
  throw new Error('decoded')
}

describe('event codec', () => {
  test('golden bytes of an order', () => {
    expect(encodeEvent(order).toString('hex')).toBe(`000000000b${goldenFields}0206776562`)
    expect(encodeEvent({ ...order, channel: null }).toString('hex')).toBe(
      `000000000b${goldenFields}00`,
    )
  })

  test('golden bytes of an order before it had a channel are read as one without', () => {
    const bytes = Buffer.from(`0000000001${goldenFields}`, 'hex')
    expect(decodeEvent(bytes)).toEqual({ ...order, channel: null })
    const read = eventCodec.projection('OrderCreated', ['channel', 'createdAt'])
    expect(read(bytes, 0, bytes.length)).toEqual({ channel: null, createdAt: order.createdAt })
  })

  test('an order made without a channel has none', () => {
    const { channel: _, ...old } = order
    expect(decodeEvent(encodeEvent(old))).toEqual({ ...order, channel: null })
  })

  test('bytes are those of avsc, and both decode them to the same event', () => {
    fc.assert(
      fc.property(anyEvent, event => {
        const bytes = encodeEvent(event)
        expect(bytes).toEqual(framedByAvsc(event))
        const { type, ...value } = decodeEvent(bytes)
        expect(type).toBe(event.type)
        expect(value).toEqual({ ...avscTypes.get(type)!.fromBuffer(bytes.subarray(5)) })
        expect(decodeEvent(bytes)).toEqual(event)
      }),
      { numRuns: 1000, seed: 1 },
    )
  })

  test('the largest safe integers survive, both signs, and no larger one is written', () => {
    for (const totalMinor of [2 ** 53 - 1, -(2 ** 53) + 1, -1, 0, 2 ** 31, -(2 ** 31) - 1]) {
      const bytes = encodeEvent({ ...order, totalMinor })
      expect(decodeEvent(bytes)).toEqual({ ...order, totalMinor })
    }
    for (const totalMinor of [2 ** 53, -(2 ** 53), 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => encodeEvent({ ...order, totalMinor })).toThrow(
        `totalMinor: expected an integer up to 2^53 - 1, got ${totalMinor}`,
      )
    }
  })

  test('an integer beyond 2^53 - 1 in the bytes is refused, never rounded', () => {
    const bytes = encodeEvent({ ...order, totalMinor: 2 ** 53 - 1, createdAt: 0, channel: null })
    // The zigzag varint of 2^53 - 1 is fe ff ff ff ff ff ff 1f; of 2^53, 80 … 80 20.
    const at = bytes.length - 10
    expect(bytes.subarray(at, -2).toString('hex')).toBe('feffffffffffff1f')
    bytes.write('8080808080808020', at, 'hex')
    expect(refusal(bytes)).toMatchObject({ code: 'EVENT_NUMBER', path: 'totalMinor' })
    bytes.write('ffffffffffffff1f', at, 'hex')
    expect(refusal(bytes)).toMatchObject({ code: 'EVENT_NUMBER', path: 'totalMinor' })
    const endless = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(40, 0x80)])
    expect(refusal(endless).problem).toBe('an integer of more than 10 bytes')
  })

  test('an event is read from the middle of a larger buffer, and no byte beyond its end', () => {
    const bytes = encodeEvent(order)
    const around = Buffer.concat([Buffer.alloc(7, 0xff), bytes, bytes])
    expect(decodeEvent(around, 7, 7 + bytes.length)).toEqual(order)
    for (let end = 7; end < 7 + bytes.length; end += 1) {
      expect(() => decodeEvent(around, 7, end)).toThrow(ContractError)
    }
    expect(() => decodeEvent(around, 7, 8 + bytes.length)).toThrow('foreign bytes: 1 bytes')
    expect(() => decodeEvent(bytes, 0, bytes.length + 1)).toThrow(ContractError)
    expect(() => decodeEvent(bytes, -1, bytes.length)).toThrow(ContractError)
  })

  test('a frame that is not ours is refused', () => {
    expect(refusal(Buffer.alloc(0))).toMatchObject({ code: 'EVENT_FRAME' })
    expect(refusal(Buffer.from('{"orderId":"o-1"}')).problem).toBe('magic byte 123, 0 wanted')
    expect(refusal(Buffer.from('00000000630601', 'hex'))).toMatchObject({
      code: 'EVENT_SCHEMA_UNKNOWN',
      problem: 'id 99',
    })
    expect(refusal(Buffer.from('00ffffffff00', 'hex')).problem).toBe('id 4294967295')
  })

  test('a length prefix of 2^31 or less than none is refused without allocating', () => {
    const huge = Buffer.from('0000000002808080801000000000', 'hex')
    expect(refusal(huge)).toMatchObject({
      code: 'EVENT_TRUNCATED',
      path: 'orderId',
      problem: '2147483648 bytes wanted, 4 left',
    })
    expect(refusal(Buffer.from('00000000020100', 'hex')).code).toBe('EVENT_LENGTH')
    const items = Buffer.from('0000000006026ffeffffff0f', 'hex')
    const before = process.memoryUsage().rss
    expect(refusal(items)).toMatchObject({ code: 'EVENT_LENGTH' })
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024)
  })

  test('a place deep in the event is named', () => {
    const bytes = encodeEvent(order)
    const at = bytes.indexOf('müsli') + 1
    bytes[at] = 0xff
    expect(refusal(bytes)).toMatchObject({ code: 'EVENT_TEXT', path: 'items[1].sku' })
    expect(refusal(bytes).message).toBe('A text in the event is not UTF-8: items[1].sku: 6 bytes.')
  })

  test('invalid UTF-8 is refused in every text, short or long, interned or not; U+FFFD is not', () => {
    for (const field of ['orderId', 'region'] as const) {
      for (const length of [1, 5, 30, 300]) {
        const fine = encodeEvent({ ...order, [field]: `\ufffd${'a'.repeat(length)}` })
        expect(decodeEvent(fine)).toMatchObject({ [field]: `\ufffd${'a'.repeat(length)}` })
        const broken = Buffer.from(fine)
        broken[fine.indexOf('\ufffd') + 2] = 0x28
        expect(refusal(broken)).toMatchObject({ code: 'EVENT_TEXT', path: field })
      }
    }
  })

  test('a text without UTF-8 is not written', () => {
    expect(() => encodeEvent({ ...order, region: 'a\ud800' })).toThrow('region: expected a text')
  })

  test('bytes of any kind decode to an event that encodes again, or are a contract error', () => {
    const mutated = fc
      .tuple(anyEvent, fc.nat(), fc.integer({ min: 0, max: 255 }))
      .map(([event, at, byte]) => {
        const bytes = encodeEvent(event)
        bytes[5 + (at % (bytes.length - 5))] = byte
        return bytes
      })
    const foreign = fc
      .tuple(fc.integer({ min: 1, max: schemaHistory.length }), fc.uint8Array({ maxLength: 60 }))
      .map(([id, body]) => Buffer.from([0, 0, 0, 0, id, ...body]))
    let decoded = 0
    let refused = 0
    fc.assert(
      fc.property(fc.oneof(mutated, foreign), bytes => {
        let event: BusinessEvent
        try {
          event = decodeEvent(bytes)
        } catch (error) {
          refused += 1
          expect(error).toBeInstanceOf(ContractError)
          return
        }
        decoded += 1
        expect(decodeEvent(encodeEvent(event))).toEqual(event)
      }),
      { numRuns: 3000, seed: 2 },
    )
    expect(Math.min(decoded, refused)).toBeGreaterThan(100)
  })
})

describe('projection', () => {
  test('reads the fields asked for, the same values as a whole decode', () => {
    const read = eventCodec.projection('OrderCreated', ['orderId', 'totalMinor', 'createdAt'])
    fc.assert(
      fc.property(
        anyEvent.filter(event => event.type === 'OrderCreated'),
        event => {
          const bytes = encodeEvent(event)
          const { orderId, totalMinor, createdAt } = event
          expect(read(bytes, 0, bytes.length)).toEqual({ orderId, totalMinor, createdAt })
        },
      ),
      { numRuns: 300, seed: 3 },
    )
  })

  test('refuses exactly the bytes that a whole decode refuses', () => {
    const read = eventCodec.projection('OrderCreated', ['createdAt'])
    const bytes = encodeEvent(order)
    let refusals = 0
    for (let at = 5; at < bytes.length; at += 1) {
      for (const value of [0x00, 0x01, 0x28, 0x7f, 0x80, 0xff]) {
        const broken = Buffer.from(bytes)
        broken[at] = value
        const outcome = (decode: () => unknown) => {
          try {
            decode()
            return 'fine'
          } catch (error) {
            refusals += 1
            return (error as ContractError).reason
          }
        }
        expect(outcome(() => read(broken, 0, broken.length))).toBe(
          outcome(() => decodeEvent(broken)),
        )
      }
    }
    expect(refusals).toBeGreaterThan(100)
  })

  test('of one type refuses an event of another', () => {
    const read = eventCodec.projection('OrderCancelled', ['reason'])
    const bytes = encodeEvent(order)
    expect(() => read(bytes, 0, bytes.length)).toThrow('OrderCreated where OrderCancelled is read')
    expect(eventCodec.typeAt(bytes, 0, bytes.length)).toBe('OrderCreated')
  })
})
