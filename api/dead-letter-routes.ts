/**
 * `/v1/dead-letters`: what was put aside, listed and looked at, replayed and discarded. Everything
 * here needs the role admin: letters hold the records themselves.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { MillraceError, streamsError } from '../streams/errors.ts'
import {
  type ActRequest,
  type DeadLetterAdmin,
  type LetterAction,
  type LetterFilter,
  type LetterOutcome,
  type LetterState,
  letterId,
  parseLetterId,
  sideReasons,
} from '../streams/letters.ts'
import type { MetricSample } from '../streams/views.ts'
import { awaitPosition, type ServerContext, sendJson } from './context.ts'
import { letterDetail, letterSummary } from './dead-letter-json.ts'
import {
  booleanOf,
  cursorOf,
  limitOf,
  type Parameters,
  parameterError,
  parseSearch,
  refuseUnknown,
  timeOf,
  waitMsOf,
} from './parameters.ts'
import { readRoute, searchOf, writeRoute } from './routes.ts'

export interface DeadLetters {
  /** By application, in the order in which they are listed. */
  readonly of: ReadonlyMap<string, DeadLetterAdmin>
  /** A token that covers all that is in the input topics now. */
  readonly position: () => Promise<string>
}

const filterNames = ['application', 'state', 'reason', 'topic', 'step', 'from', 'to'] as const
const states: readonly LetterState[] = ['open', 'replayed', 'discarded']
const actions: readonly LetterAction[] = ['replay', 'discard']

export function registerDeadLetterRoutes(
  app: FastifyInstance,
  context: ServerContext,
  letters: DeadLetters,
): void {
  const role = 'admin'
  const list = (request: FastifyRequest, reply: FastifyReply) =>
    listLetters({ context, letters, request, reply })
  readRoute(app, '/v1/dead-letters', list, { role })
  for (const action of actions) {
    const act = (request: FastifyRequest, reply: FastifyReply) =>
      actOnAll(letters, action, request, reply)
    writeRoute(app, `/v1/dead-letters/${action}`, act, role)
  }
  const show = async (request: FastifyRequest, reply: FastifyReply) => {
    refuseUnknown(parseSearch(searchOf(request)), [])
    const { admin, offset, id } = letterOf(letters, request)
    const stored = await admin.get(offset)
    if (stored === undefined) throw streamsError('LETTER_UNKNOWN', { letter: id })
    const found = await admin.original(stored).catch(refusalOf)
    return sendJson(reply, { deadLetter: letterDetail(stored, found) })
  }
  readRoute(app, '/v1/dead-letters/:id', show, { role })
  for (const action of actions) {
    const act = async (request: FastifyRequest, reply: FastifyReply) => {
      const parameters = parseSearch(searchOf(request))
      refuseUnknown(parameters, ['dryRun'])
      const { admin, offset, id } = letterOf(letters, request)
      const dryRun = booleanOf(parameters, 'dryRun')
      const outcome = await admin.act(requestOf(action, request, dryRun), offset)
      const position = await letters.position()
      return sendJson(reply, { ...outcome, offset: undefined, id, dryRun, position }, position)
    }
    writeRoute(app, `/v1/dead-letters/:id/${action}`, act, role)
  }
}

/** How many are open in each application: the same on every instance. */
export function letterSamples({ of }: DeadLetters): MetricSample[] {
  const help = 'Dead letters that are neither replayed nor discarded'
  const samples: MetricSample[] = []
  for (const [application, admin] of of) {
    const value = admin.open
    if (value === undefined) continue
    samples.push({ name: 'dead_letters_open', help, kind: 'gauge', labels: { application }, value })
  }
  return samples
}

interface Listing {
  readonly context: ServerContext
  readonly letters: DeadLetters
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

async function listLetters({ context, letters, request, reply }: Listing) {
  const parameters = parseSearch(searchOf(request))
  refuseUnknown(parameters, [...filterNames, 'limit', 'cursor', 'timeout'])
  const filter = filterOf(parameters)
  const limit = limitOf(parameters)
  const place = placeOf(letters, parameters)
  await awaitPosition(context, request, waitMsOf(parameters))
  const position = context.views.position()
  const deadLetters: unknown[] = []
  let { index, at } = place
  for (; index < place.admins.length; index++, at = undefined) {
    const admin = place.admins[index]!
    const query = { filter, limit: limit - deadLetters.length, ...(at !== undefined && { at }) }
    const page = await admin.list(query, letterSummary)
    deadLetters.push(...page.letters)
    const next = nextOf(place.admins, index, page.next, deadLetters.length >= limit)
    if (next !== undefined) return sendJson(reply, { deadLetters, next, position }, position)
  }
  return sendJson(reply, { deadLetters, next: null, position }, position)
}

async function actOnAll(
  letters: DeadLetters,
  action: LetterAction,
  request: FastifyRequest,
  reply: FastifyReply,
) {
  const parameters = parseSearch(searchOf(request))
  refuseUnknown(parameters, [...filterNames, 'all', 'dryRun', 'limit', 'cursor'])
  const filter = filterOf(parameters)
  if (!booleanOf(parameters, 'all') && !filterNames.some(name => parameters.has(name))) {
    throw parameterError('all', 'without a filter it must be true: all open dead letters are meant')
  }
  const limit = limitOf(parameters)
  const dryRun = booleanOf(parameters, 'dryRun')
  const asked = requestOf(action, request, dryRun)
  const results: unknown[] = []
  const { admins, index: from, at: begin } = placeOf(letters, parameters)
  let next: string | null = null
  for (let index = from, at = begin; index < admins.length; index++, at = undefined) {
    const admin = admins[index]!
    const query = { filter, limit: limit - results.length, ...(at !== undefined && { at }) }
    const page = await admin.actAll(asked, query)
    results.push(...page.letters.map(outcome => outcomeJson(admin.application, outcome)))
    const found = nextOf(admins, index, page.next, results.length >= limit)
    if (found === undefined) continue
    next = found
    break
  }
  const position = await letters.position()
  return sendJson(reply, { results, dryRun, next, position }, position)
}

function outcomeJson(application: string, outcome: LetterOutcome) {
  const id = letterId(application, outcome.offset)
  if (!('error' in outcome)) return { id, state: outcome.state, changed: outcome.changed }
  const { code, message } = outcome.error
  return { id, code, detail: message }
}

function requestOf(action: LetterAction, request: FastifyRequest, dryRun: boolean): ActRequest {
  return { action, dryRun, by: request.principal?.name ?? null }
}

function letterOf({ of }: DeadLetters, request: FastifyRequest) {
  const { id } = request.params as { id: string }
  const parsed = parseLetterId(id)
  const admin = parsed && of.get(parsed.application)
  if (admin === undefined) throw streamsError('LETTER_UNKNOWN', { letter: id.slice(0, 128) })
  return { admin, offset: parsed!.offset, id }
}

function refusalOf(error: unknown): string {
  if (!(error instanceof MillraceError) || error.recovery !== 'reject') throw error
  return String(error.details.reason)
}

function filterOf(parameters: Parameters): LetterFilter {
  const state = parameters.get('state') ?? 'open'
  if (state !== 'all' && !states.some(known => known === state)) {
    throw parameterError('state', `it must be one of ${states.join(', ')} or all`)
  }
  const reason = parameters.get('reason')
  if (reason !== undefined && !sideReasons.some(known => known === reason)) {
    throw parameterError('reason', `it must be one of ${sideReasons.join(', ')}`)
  }
  const from = timeOf(parameters, 'from')
  const to = timeOf(parameters, 'to')
  if (from !== undefined && to !== undefined && from > to) {
    throw parameterError('from', 'it is after `to`')
  }
  const topic = parameters.get('topic')
  const step = parameters.get('step')
  return {
    ...(state !== 'all' && { state: state as LetterState }),
    ...(reason !== undefined && { reason }),
    ...(topic !== undefined && { topic }),
    ...(step !== undefined && { step }),
    ...(from !== undefined && { fromMs: from }),
    ...(to !== undefined && { toMs: to }),
  }
}

/** The applications that are meant, and where the page begins among them. */
function placeOf({ of }: DeadLetters, parameters: Parameters) {
  const application = parameters.get('application')
  const names = [...of.keys()]
  if (application !== undefined && !of.has(application)) {
    const known = names.join(', ')
    throw parameterError('application', `there is no such application; there are ${known}`)
  }
  const admins = [...of.values()].filter(
    each => (application ?? each.application) === each.application,
  )
  const cursor = cursorOf(parameters)
  if (cursor === undefined) return { admins, index: 0, at: undefined }
  const match = /^(.+):(\d{0,15})$/s.exec(Buffer.from(cursor, 'base64url').toString())
  const index = admins.findIndex(each => each.application === match?.[1])
  if (match === null || index < 0) throw streamsError('CURSOR_INVALID')
  return { admins, index, at: match[2] === '' ? undefined : Number(match[2]) }
}

/** The cursor of the page after this one: null at the end, undefined to go on with the next. */
function nextOf(
  admins: readonly DeadLetterAdmin[],
  index: number,
  at: number | null,
  isFull: boolean,
): string | null | undefined {
  if (at !== null) return encodeCursor(admins[index]!, String(at))
  if (!isFull) return undefined
  const following = admins[index + 1]
  return following === undefined ? null : encodeCursor(following, '')
}

function encodeCursor({ application }: DeadLetterAdmin, at: string): string {
  return Buffer.from(`${application}:${at}`).toString('base64url')
}
