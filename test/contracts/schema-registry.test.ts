import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import avro from 'avsc'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type AvroRecord, parseAvro } from '../../contracts/avro-schema.ts'
import { ContractError, SchemaPending } from '../../contracts/errors.ts'
import { EventCodec, encodeEvent } from '../../contracts/event-codec.ts'
import type { OrderCancelled } from '../../contracts/events.ts'
import { type HttpAnswer, RegistryClient } from '../../contracts/registry-client.ts'
import { RegistryDirectory, registerEvents, subjectOf } from '../../contracts/schema-registry.ts'
import { schemaHistory } from '../../contracts/schemas.ts'
import { type SchemaRow, SubjectTable, unreadable } from '../../contracts/subject-table.ts'
import { root } from '../support/processes.ts'

const record = (fields: readonly object[], name = 'T') =>
  parseAvro({ type: 'record', name, namespace: 'a.b', fields })

function problemOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    return (error as ContractError).reason
  }
  return 'none'
}

const eventCount = 17

describe('the history', () => {
  /** A row is added with each version, and never changed. */
  const released = [
    'OrderCreated 1 a253f562',
    'OrderCancelled 1 19a11b39',
    'PaymentAuthorized 1 46c77644',
    'PaymentDeclined 1 69bd2142',
    'PaymentRefunded 1 49369462',
    'InventoryReserved 1 58484943',
    'InventoryRejected 1 9b3745dc',
    'InventoryReleased 1 8d87b9fa',
    'OrderFulfilled 1 fb92d1dd',
    'FulfilmentFailed 1 489a5cb9',
    'OrderCreated 2 947fff3b',
    'OrderItemsAdded 1 aa3f7d28',
    'OrderShipped 1 04b6b946',
    'StockReceived 1 84af1e19',
    'FraudSuspected 1 67b41e46',
    'NotificationRequested 1 0a9c0da2',
    'CustomerUpdated 1 5aed8d93',
    'ProductUpdated 1 de9fa475',
    'OrderCancelled 2 d69b2aeb',
  ]

  test('has every document of the folder, once, with versions from 1 and ids from 1', () => {
    const files = schemaHistory.map(({ type, version }) => `${type}.v${version}.json`)
    expect(files.toSorted()).toEqual(readdirSync(join(root, 'contracts/schemas')).toSorted())
    expect(schemaHistory.map(({ id }) => id)).toEqual(schemaHistory.map((_, at) => at + 1))
    for (const { type, version, schema } of schemaHistory) {
      const text = readFileSync(join(root, `contracts/schemas/${type}.v${version}.json`), 'utf8')
      expect(JSON.parse(text)).toEqual(schema)
      expect(schema.name).toBe(type)
    }
  })

  test('of what was ever written does not change', () => {
    const digests = schemaHistory.map(({ type, version, schema }) => {
      const digest = createHash('sha256').update(JSON.stringify(schema)).digest('hex')
      return `${type} ${version} ${digest.slice(0, 8)}`
    })
    expect(digests).toEqual(released)
  })
})

test('an event that lacks a field of today has the value that follows from its others', () => {
  const codec = new EventCodec({
    byId: id => schemaHistory.find(row => row.id === id),
    current: type => schemaHistory.find(row => row.type === type)!,
    versions: type => schemaHistory.filter(row => row.type === type),
  })
  const cancelled = (reason: string): OrderCancelled => ({
    type: 'OrderCancelled',
    orderId: 'o-1',
    reason,
    cancelledAt: 7,
  })
  const [old] = [codec.encode(cancelled('ordered-twice'))]
  expect(old!.toString('hex')).toBe('0000000002066f2d311a6f7264657265642d74776963650e')
  const by = (bytes: Buffer) => codec.decode(bytes, 0, bytes.length)
  expect(by(old!)).toEqual({ ...cancelled('ordered-twice'), cancelledBy: 'customer' })
  expect(by(codec.encode(cancelled('who knows')))).toMatchObject({ cancelledBy: null })
  // One that has the field says it itself.
  expect(by(encodeEvent(cancelled('ordered-twice')))).toMatchObject({ cancelledBy: null })
  const read = codec.projection('OrderCancelled', ['cancelledBy'])
  expect(read(old!, 0, old!.length)).toEqual({ cancelledBy: 'customer' })
})

describe('what a reader cannot read', () => {
  const inner = (name: string, field: string, type: unknown) => ({
    type: 'record',
    name,
    fields: [{ name: field, type }],
  })
  const types = fc.constantFrom<unknown>(
    'int',
    'long',
    'float',
    'double',
    'string',
    'boolean',
    ['null', 'string'],
    ['null', 'int'],
    ['null', 'long'],
    { type: 'array', items: 'int' },
    { type: 'array', items: 'long' },
    { type: 'array', items: inner('I', 'x', 'int') },
    inner('I', 'x', 'int'),
    inner('I', 'x', 'string'),
    inner('J', 'x', 'int'),
    { type: 'enum', name: 'E', symbols: ['A', 'B'] },
    { type: 'enum', name: 'E', symbols: ['A', 'B', 'C'] },
  )
  const defaulted = fc.constantFrom<readonly [unknown, unknown]>(
    ['int', 1],
    ['string', 'x'],
    [['null', 'string'], null],
  )
  const field = (name: string) =>
    fc.oneof(
      types.map(type => ({ name, type })),
      defaulted.map(([type, value]) => ({ name, type, default: value })),
    )
  const schema = fc
    .tuple(fc.option(field('a')), fc.option(field('b')))
    .map(fields => fields.filter(one => one !== null))
    // A name is defined once in a schema.
    .filter(
      fields => fields.filter(({ type }) => typeof type === 'object' && 'name' in type!).length < 2,
    )
    .filter(fields => (JSON.stringify(fields).match(/"name":"I"/g)?.length ?? 0) < 2)
    .map(fields => record(fields))

  test('is what avsc cannot resolve', () => {
    let [fine, refused] = [0, 0]
    const resolves = (reader: AvroRecord, writer: AvroRecord) => {
      const [to, from] = [reader, writer].map(one =>
        avro.Type.forSchema(one as unknown as avro.Schema),
      )
      try {
        to!.createResolver(from!)
        return true
      } catch {
        return false
      }
    }
    fc.assert(
      fc.property(schema, schema, (reader, writer) => {
        const ours = unreadable(reader, writer)
        expect([resolves(reader, writer), ours]).toEqual([ours === undefined, ours])
        if (ours === undefined) fine += 1
        else refused += 1
      }),
      { numRuns: 3000, seed: 5 },
    )
    expect(Math.min(fine, refused)).toBeGreaterThan(300)
  })

  test('is named with its place', () => {
    const before = record([
      { name: 'items', type: { type: 'array', items: inner('I', 'x', 'int') } },
    ])
    const after = record([
      { name: 'items', type: { type: 'array', items: inner('I', 'x', 'string') } },
    ])
    expect(unreadable(after, before)).toBe('items.x: int where string is wanted')
    expect(unreadable(record([{ name: 'n', type: 'int' }]), before)).toBe('T lacks n')
  })
})

describe('a table of subjects', () => {
  const x = { name: 'x', type: 'string' }
  const y = { name: 'y', type: ['null', 'string'], default: null }
  const z = { name: 'z', type: 'string' }

  function tableOf(rule?: Parameters<SubjectTable['ruleRow']>[1]) {
    const rows: SchemaRow[] = []
    const table = new SubjectTable()
    const add = (row: SchemaRow) => {
      rows.push(row)
      table.apply(row)
    }
    if (rule !== undefined) add(table.ruleRow('a.b.T', rule)!)
    const register = (fields: readonly object[], subject = 'a.b.T') => {
      const found = table.registration(subject, record(fields))
      if (typeof found === 'number') return found
      add(found)
      return JSON.parse(found.value).id as number
    }
    return { table, rows, register }
  }

  test('gives ids from 1, the same again for the same, and is made again from its rows', () => {
    const { rows, register, table } = tableOf('FULL')
    expect([register([x]), register([x, y]), register([x]), register([z], 'other')]).toEqual([
      1, 2, 1, 3,
    ])
    const again = new SubjectTable()
    for (const row of rows) again.apply(row)
    expect(again.registration('a.b.T', record([x, y]))).toBe(2)
    expect(again.schemaOf(3)).toEqual(table.schemaOf(3))
    expect(again.schemaOf(4)).toBe(undefined)
    expect(again.ruleRow('a.b.T', 'FULL')).toBe(undefined)
    expect(() => again.registration('a.b.T', record([x, z]))).toThrow('FULL')
  })

  test.each([
    ['BACKWARD', [x], [x, z], 'z'],
    ['BACKWARD', [x, z], [x], undefined],
    ['FORWARD', [x, z], [x], 'z'],
    ['FORWARD', [x], [x, z], undefined],
    ['FULL', [x], [x, y], undefined],
    ['FULL', [x, z], [x], 'z'],
    ['FULL', [x], [x, z], 'z'],
    ['NONE', [x], [z], undefined],
  ] as const)('%s: from %j to %j', (rule, before, after, missing) => {
    const { register } = tableOf(rule)
    register(before)
    const problem = problemOf(() => register(after))
    if (missing === undefined) expect(problem).toBe('none')
    else expect(problem).toContain(`not ${rule} compatible with version 1: T lacks ${missing}`)
  })

  test('a transitive rule is held against every version', () => {
    const changes = [
      [{ ...x, type: 'int' }, y],
      [y],
      [x, y].map(one => ({ ...one, default: null })),
    ]
    const numbered = changes.slice(0, 2)
    const text = [{ name: 'x', type: 'string', default: '' }, y]
    for (const [rule, expected] of [
      ['BACKWARD', 'none'],
      ['BACKWARD_TRANSITIVE', 'version 1: x: int where string is wanted'],
    ] as const) {
      const { register } = tableOf(rule)
      for (const fields of numbered) register(fields)
      expect(problemOf(() => register(text))).toContain(expected)
    }
  })
})

describe('a directory over a registry', () => {
  /** Answers as told, and keeps what it was asked. */
  function scripted(
    answer: (path: string, asked: number) => HttpAnswer | Error,
    signal?: AbortSignal,
  ) {
    const asked: string[] = []
    const delays: number[] = []
    let nowMs = 0
    const client = new RegistryClient({
      call: async (method, path) => {
        asked.push(`${method} ${path}`)
        const given = answer(path, asked.length)
        if (given instanceof Error) throw given
        return given
      },
      schedule: (task, delayMs) => {
        const timer = setImmediate(task)
        nowMs += delayMs
        return () => clearImmediate(timer)
      },
      onRetry: (_, delayMs) => delays.push(delayMs),
      ...(signal && { signal }),
    })
    const clock = () => nowMs
    const rows = schemaHistory.map(({ id, type, schema }) => ({ id: id + 100, type, schema }))
    const directory = new RegistryDirectory({
      registry: client,
      rows,
      clock,
      ...(signal && { signal }),
    })
    const pass = (ms: number) => {
      nowMs += ms
    }
    return { asked, delays, directory, codec: new EventCodec(directory), pass }
  }

  const found = (row: object): HttpAnswer => ({ status: 200, text: JSON.stringify(row) })
  const lost: HttpAnswer = { status: 404, text: '{"error_code":40403,"message":"none"}' }
  const stranger = schemaHistory[0]!
  const answered = found({ schema: JSON.stringify(stranger.schema) })
  const bytesOf = (id: number) => {
    const bytes = Buffer.from('0000000000020100', 'hex')
    bytes.writeUInt32BE(id, 1)
    return bytes
  }
  const decode = (codec: EventCodec, id: number) => () => codec.typeAt(bytesOf(id), 0, 8)

  test('knows what was registered, and asks for nothing of it', () => {
    const { asked, codec } = scripted(() => lost)
    expect(decode(codec, 101)()).toBe('OrderCreated')
    expect(
      codec.encode({ type: 'OrderCancelled', orderId: 'o', reason: 'r', cancelledAt: 1 })[4],
    ).toBe(100 + schemaHistory.findLast(({ type }) => type === 'OrderCancelled')!.id)
    expect(asked).toEqual([])
  })

  test('looks an id up once, however many ask, and keeps it for ever', async () => {
    const { asked, codec, pass } = scripted(() => answered)
    for (let i = 0; i < 10; i++) expect(decode(codec, 7)).toThrow(SchemaPending)
    await expect.poll(decode(codec, 7)).toBe('OrderCreated')
    pass(10 ** 9)
    expect(decode(codec, 7)()).toBe('OrderCreated')
    expect(asked).toEqual(['GET /schemas/ids/7'])
  })

  test('a stop while the registry is down refuses nothing: what waits is there at the next start', async () => {
    const stopping = new AbortController()
    const { asked, codec } = scripted(() => new Error('refused'), stopping.signal)
    expect(decode(codec, 7)).toThrow(SchemaPending)
    await expect.poll(() => asked.length).toBeGreaterThan(1)
    stopping.abort()
    for (let turn = 0; turn < 10; turn++) {
      await new Promise(setImmediate)
      expect(decode(codec, 7)).toThrow(SchemaPending)
    }
  })

  test('while the registry is down it waits, longer each time, and refuses nothing', async () => {
    const down = [new Error('refused'), { status: 503, text: '' }, { status: 429, text: '{}' }]
    const gateway = { status: 404, text: '<html>no such backend</html>' }
    const { delays, codec } = scripted((_, asked) => {
      if (asked > 14) return answered
      return down[asked - 1] ?? (asked < 8 ? gateway : { status: 401, text: '{}' })
    })
    await expect
      .poll(() => {
        const problem = problemOf(decode(codec, 7))
        expect(['none', 'id 7']).toContain(problem)
        return problem
      })
      .toBe('none')
    expect(delays.length).toBe(14)
    expect(delays.every(ms => ms >= 100 && ms <= 10_000)).toBe(true)
    expect(delays.slice(0, 3)).toEqual([100, 200, 400])
  })

  test.each([
    ['an id that it does not have', lost, 'id 7: the registry has no schema of that id'],
    [
      'a schema of another kind',
      found({ schema: '{}', schemaType: 'JSON' }),
      'id 7: the schema is JSON, not Avro',
    ],
    [
      'a record that is no event',
      found({ schema: '{"type":"record","name":"x.Eaten","fields":[]}' }),
      'id 7: x.Eaten is no event that is known here',
    ],
    [
      'a schema that cannot be used',
      found({ schema: '{"type":"record","name":"X","fields":[{"name":"a","type":"bytes"}]}' }),
      'X.a: type bytes',
    ],
    ['no schema at all', found({ schema: '{' }), 'id 7: SyntaxError'],
  ])('says of %s why it is none, for a minute without asking again', async (_, answer, reason) => {
    const { asked, codec, pass } = scripted((_, asked) => (asked === 1 ? answer : answered))
    await expect.poll(() => problemOf(decode(codec, 7))).toContain(reason)
    for (let i = 0; i < 3; i++) expect(problemOf(decode(codec, 7))).toContain(reason)
    expect(asked.length).toBe(1)
    pass(60_000)
    await expect.poll(() => problemOf(decode(codec, 7))).toBe('none')
    expect(asked.length).toBe(2)
  })

  test('registering says what the registry says', async () => {
    const client = new RegistryClient({
      call: async (method, path) => {
        if (method === 'GET') return found({ compatibilityLevel: 'BACKWARD' })
        const status = path.includes('OrderCancelled') ? 409 : 200
        return { status, text: JSON.stringify({ id: 1, error_code: 409, message: 'y is missing' }) }
      },
      schedule: () => () => {},
    })
    await expect(registerEvents(client)).rejects.toThrow(
      'millrace.orders.OrderCancelled: y is missing',
    )
    const forbidden = new RegistryClient({
      call: async () => ({ status: 403, text: '{"message":"not you"}' }),
      schedule: () => () => {},
    })
    await expect(registerEvents(forbidden)).rejects.toThrow(/not you.*REGISTRY_URL/)
  })

  test('a registry that knows no rule of a subject without versions gets it after the first', async () => {
    const known = new Set<string>()
    const asked: string[] = []
    const client = new RegistryClient({
      call: async (method, path) => {
        asked.push(`${method} ${path}`)
        const [, kind, subject] = path.split('/')
        if (kind === 'subjects') known.add(subject!)
        else if (!known.has(subject!)) return lost
        return found({ id: 1 })
      },
      schedule: () => () => {},
    })
    await registerEvents(client, { history: [schemaHistory[0]!], compatibility: () => 'NONE' })
    const subject = 'millrace.orders.OrderCreated'
    const rule = [`GET /config/${subject}`, `PUT /config/${subject}`]
    expect(asked).toEqual([...rule, `POST /subjects/${subject}/versions`, ...rule])
  })

  test('a stop ends the wait for a registry that is down', async () => {
    const stopping = new AbortController()
    const client = new RegistryClient({
      call: async () => {
        throw new Error('refused')
      },
      schedule: () => () => {},
      onRetry: () => setImmediate(() => stopping.abort()),
      signal: stopping.signal,
    })
    await expect(registerEvents(client)).rejects.toThrow(/abort/i)
  })
})

test('subjects are the full names of the records', () => {
  expect(subjectOf(schemaHistory[0]!.schema)).toBe('millrace.orders.OrderCreated')
  expect(subjectOf({ type: 'record', name: 'a.B', fields: [] })).toBe('a.B')
  expect(new Set(schemaHistory.map(({ schema }) => subjectOf(schema))).size).toBe(eventCount)
  expect(new ContractError('SCHEMA_REFUSED', 'x').message).toContain('SCHEMA_COMPATIBILITY')
})
