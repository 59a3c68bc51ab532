/** Commands to orders, from requests: what is asked, under which id, and with which answer. */
import { hash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { EventRecord } from '../contracts/event-record.ts'
import {
  type OrderCommand,
  type OrderCommandRecord,
  type OrderCommandType,
  type OrderOutcome,
  orderCommand,
  orderCommandTopic,
  orderCommandView,
} from '../contracts/order-commands.ts'
import { positionHeader, type ServerContext, sendJson, tokenOf } from './context.ts'
import { apiError } from './errors.ts'
import { sendProblem } from './problem.ts'
import { readOne } from './reading.ts'
import { traceOfCommand } from './tracing.ts'

/** A command's record, for `order-commands`. */
export type CommandRecord = Omit<EventRecord, 'topic'> & {
  readonly topic: typeof orderCommandTopic
}

export interface OrderPorts {
  /** Appends a command; resolves with a position that covers it. */
  readonly append: (command: CommandRecord) => Promise<string>
  /** A position that covers all that is in the log. */
  readonly position: () => Promise<string>
  readonly ids: () => string
}

export interface Asked {
  readonly context: ServerContext
  readonly ports: OrderPorts
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly waitMs: number
}

/** Decides the command by way of the log, and answers. Throws what a bad request breaks. */
export async function ask(
  asked: Asked,
  type: OrderCommandType,
  order?: string,
): Promise<FastifyReply> {
  const { context, ports, request } = asked
  const key = idempotencyKey(request)
  const id = key === undefined ? ports.ids() : commandIdOf(request, [type, order ?? '', key])
  const orderId = order ?? id
  const command = commandOf(request, type, orderId)
  const fingerprint = hash('sha256', JSON.stringify(command), 'base64url')
  checkServed(context)
  // A token is waited for before the command is appended: it is decided on what the token covers.
  const isFresh = key === undefined && tokenOf(request) === undefined
  const known = isFresh ? undefined : await outcomeOf(asked, id)
  if (known !== undefined) return answer(asked, { id, fingerprint, outcome: known })
  const record = commandRecord({ id, fingerprint, command }, asked)
  const covering = await ports.append(record)
  const outcome = await outcomeOf(asked, id, covering)
  if (outcome === undefined) throw apiError('COMMAND_UNDECIDED', { command: id })
  return answer(asked, { id, fingerprint, outcome })
}

function commandOf(request: FastifyRequest, type: OrderCommandType, orderId: string): OrderCommand {
  if (!/^[^\p{Cc}]{1,255}$/u.test(orderId)) {
    throw invalid('the path: expected an order of 1 to 255 characters, none of them control')
  }
  const ifMatch = ifMatchOf(request)
  if (type === 'PlaceOrder' && ifMatch !== null) {
    throw invalid('If-Match: an order that is not there yet has no version')
  }
  const parsed = orderCommand(type, bodyOf(request), { orderId, ifMatch })
  if ('breach' in parsed) throw invalid(parsed.breach.detail)
  return parsed.command
}

function invalid(reason: string) {
  return apiError('COMMAND_INVALID', { reason })
}

function bodyOf({ body }: FastifyRequest): unknown {
  if (!Buffer.isBuffer(body) || body.length === 0) throw invalid('body: expected a JSON object')
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw invalid('body: it is not well-formed JSON in UTF-8')
  }
}

/** The version that If-Match names, null where it names none, or any. */
function ifMatchOf({ headers }: FastifyRequest): number | null {
  const text = headers['if-match']
  if (text === undefined || text === '*') return null
  const version = /^"(0|[1-9]\d{0,8})"$/.exec(text)?.[1]
  if (version !== undefined) return Number(version)
  throw invalid('If-Match: expected the ETag of the order, such as "3", or *')
}

function idempotencyKey({ headers }: FastifyRequest): string | undefined {
  const key = headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key
  throw invalid('Idempotency-Key: expected 1 to 255 printable ASCII characters, without spaces')
}

/** Keys are those of one user, order and kind of command: another user's are others. */
function commandIdOf({ principal }: FastifyRequest, asked: readonly string[]): string {
  const parts = JSON.stringify([principal?.name ?? '', ...asked])
  return hash('sha256', parts, 'hex').slice(0, 32)
}

function checkServed({ views }: ServerContext): void {
  if (views.views().some(({ name }) => name === orderCommandView)) return
  throw apiError('COMMANDS_NOT_SERVED')
}

async function outcomeOf(
  { context, request, reply, waitMs }: Asked,
  id: string,
  covering?: string,
): Promise<OrderOutcome | undefined> {
  const { views } = context
  // What the request waits for is its own command, and that covers its token.
  const { row } = await readOne({ context, request, reply, waitMs }, waiting =>
    views.row(
      orderCommandView,
      id,
      covering === undefined ? waiting : { ...waiting, covering, timeoutMs: waitMs },
    ),
  )
  return row as OrderOutcome | undefined
}

function commandRecord(
  value: OrderCommandRecord,
  { context, request }: Pick<Asked, 'context' | 'request'>,
): CommandRecord {
  const { id, command } = value
  const timestamp = context.clock()
  const traceparent = traceOfCommand(request)
  const headers = {
    ce_id: id,
    ce_type: command.type,
    ce_source: 'millrace/http',
    ce_time: new Date(timestamp).toISOString(),
    ce_specversion: '1.0',
    correlationid: id,
    actor: request.principal?.name ?? 'unknown',
    ...(traceparent && { traceparent }),
  }
  return {
    topic: orderCommandTopic,
    key: Buffer.from(command.orderId),
    value: Buffer.from(JSON.stringify(value)),
    timestamp,
    headers: Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)] as const),
  }
}

interface Answered {
  readonly id: string
  readonly fingerprint: string
  readonly outcome: OrderOutcome
}

/** The same outcome gives the same answer, byte for byte. */
async function answer(
  { ports, reply }: Asked,
  { id, fingerprint, outcome }: Answered,
): Promise<FastifyReply> {
  reply.header(positionHeader, await ports.position())
  const { orderId, refusal, version, status, eventId, eventType, decidedAt } = outcome
  if (outcome.fingerprint !== fingerprint) throw apiError('IDEMPOTENCY_KEY_REUSED')
  if (refusal !== null) {
    if (refusal !== 'ORDER_UNKNOWN') reply.header('etag', etagOf(version))
    const extensions = { orderId, version, instance: `urn:millrace:command:${id}` }
    return sendProblem(reply, apiError(refusal, { order: orderId, status, version }), extensions)
  }
  reply.header('etag', etagOf(version))
  if (outcome.type === 'PlaceOrder') {
    reply.code(201).header('location', `/v1/orders/${encodeURIComponent(orderId)}`)
  }
  const event = { id: eventId, type: eventType }
  return sendJson(reply, { orderId, version, status, command: id, event, decidedAt })
}

export function etagOf(version: number): string {
  return `"${version}"`
}
