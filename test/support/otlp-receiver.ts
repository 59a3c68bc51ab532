/** A receiver of spans over OTLP/HTTP, protobuf or JSON: real requests, kept as they are read. */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import type { SeenSpan } from './spans.ts'

export interface ReceivedSpan extends SeenSpan {
  /** `service.name` of its resource. */
  readonly service: string
}

type Attributes = Record<string, unknown>

/** Fields of a protobuf message by number; nested ones are bytes, all numbers are big. */
function fieldsOf(bytes: Buffer): Map<number, (Buffer | bigint)[]> {
  const fields = new Map<number, (Buffer | bigint)[]>()
  let p = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(bytes[p++]!)
      value |= (byte & 0x7fn) << shift
      if (byte < 0x80n) return value
    }
  }
  while (p < bytes.length) {
    const tag = Number(varint())
    let value: Buffer | bigint
    if ((tag & 7) === 0) value = varint()
    else if ((tag & 7) === 1) value = bytes.readBigUInt64LE((p += 8) - 8)
    else if ((tag & 7) === 5) value = BigInt(bytes.readUInt32LE((p += 4) - 4))
    else {
      const length = Number(varint())
      value = bytes.subarray(p, (p += length))
    }
    const list = fields.get(tag >> 3)
    if (list === undefined) fields.set(tag >> 3, [value])
    else list.push(value)
  }
  return fields
}

const messages = (bytes: Buffer, field: number) => (fieldsOf(bytes).get(field) ?? []) as Buffer[]

function attributesOf(pairs: readonly Buffer[]): Attributes {
  return Object.fromEntries(
    pairs.map(pair => {
      const [key] = messages(pair, 1)
      const value = fieldsOf(messages(pair, 2)[0]!)
      const text = value.get(1)?.[0] as Buffer | undefined
      const double = value.get(4)?.[0] as bigint | undefined
      const number = double === undefined ? value.get(3)?.[0] : doubleOf(double)
      return [key!.toString(), text?.toString() ?? Number(number)]
    }),
  )
}

function doubleOf(bits: bigint): number {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(bits)
  return bytes.readDoubleLE()
}

const contextOf = (traceId: string, spanId: string) => ({ traceId, spanId, traceFlags: 1 })

function spanOf(bytes: Buffer, service: string): ReceivedSpan {
  const fields = fieldsOf(bytes)
  const hex = (field: number) => (fields.get(field)?.[0] as Buffer | undefined)?.toString('hex')
  const ms = (field: number) => Number(fields.get(field)![0]) / 1e6
  const status = fields.get(15)?.[0] as Buffer | undefined
  const parent = hex(4)
  return {
    service,
    name: String(fields.get(5)![0]),
    // OTLP counts from 1.
    kind: Number(fields.get(6)![0]) - 1,
    context: contextOf(hex(1)!, hex(2)!),
    ...(parent && { parent }),
    links: messages(bytes, 13).map(link =>
      contextOf(messages(link, 1)[0]!.toString('hex'), messages(link, 2)[0]!.toString('hex')),
    ),
    startMs: ms(7),
    endMs: ms(8),
    attributes: attributesOf(messages(bytes, 9)),
    status: status && messages(status, 2)[0]?.toString(),
  }
}

function fromProtobuf(body: Buffer): ReceivedSpan[] {
  return messages(body, 1).flatMap(resourceSpans => {
    const [resource] = messages(resourceSpans, 1)
    const service = String(attributesOf(messages(resource!, 1))['service.name'])
    const spans = messages(resourceSpans, 2).flatMap(scope => messages(scope, 2))
    return spans.map(span => spanOf(span, service))
  })
}

interface JsonAttribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}

interface JsonSpan {
  readonly name: string
  readonly kind: number
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes?: readonly JsonAttribute[]
  readonly links?: readonly { traceId: string; spanId: string }[]
  readonly status?: { message?: string }
}

interface JsonRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly JsonAttribute[] }
    readonly scopeSpans: readonly { readonly spans: readonly JsonSpan[] }[]
  }[]
}

const jsonAttributes = (pairs: readonly JsonAttribute[] = []): Attributes =>
  Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0]]))

function fromJson(body: Buffer): ReceivedSpan[] {
  const { resourceSpans } = JSON.parse(body.toString()) as JsonRequest
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = String(jsonAttributes(resource.attributes)['service.name'])
    return scopeSpans
      .flatMap(({ spans }) => spans)
      .map(span => ({
        service,
        name: span.name,
        kind: span.kind - 1,
        context: contextOf(span.traceId, span.spanId),
        ...(span.parentSpanId && { parent: span.parentSpanId }),
        links: (span.links ?? []).map(({ traceId, spanId }) => contextOf(traceId, spanId)),
        startMs: Number(span.startTimeUnixNano) / 1e6,
        endMs: Number(span.endTimeUnixNano) / 1e6,
        attributes: jsonAttributes(span.attributes),
        status: span.status?.message,
      }))
  })
}

export class OtlpReceiver {
  readonly spans: ReceivedSpan[] = []
  /** Content types and paths of what came. */
  readonly requests = new Set<string>()
  readonly #server: Server

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#take(request).then(
        () => response.writeHead(200, { 'content-type': request.headers['content-type']! }).end(),
        error => response.writeHead(500).end(String(error)),
      )
    })
  }

  static async open(): Promise<OtlpReceiver> {
    const receiver = new OtlpReceiver()
    await new Promise<void>(resolve => receiver.#server.listen(0, '127.0.0.1', resolve))
    return receiver
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async #take(request: IncomingMessage): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { headers, method, url } = request
    const zipped = headers['content-encoding'] === 'gzip'
    const body = zipped ? gunzipSync(Buffer.concat(chunks)) : Buffer.concat(chunks)
    const type = headers['content-type']!
    this.requests.add(`${method} ${url} ${type}`)
    this.spans.push(...(type.includes('json') ? fromJson(body) : fromProtobuf(body)))
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }
}
