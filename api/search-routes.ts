/**
 * `GET /v1/search/orders?q=`: orders whose terms match every word. A word matches the terms that
 * begin with it. Those with more words that match whole come first, then the newest, then by id.
 */
import type { FastifyInstance } from 'fastify'
import { wordsOf } from '../contracts/search-terms.ts'
import type { ViewRow, Waiting } from '../streams/views.ts'
import { type ServerContext, sendJson, viewNamed } from './context.ts'
import {
  cursorOf,
  limitOf,
  parameterError,
  parseSearch,
  refuseUnknown,
  waitMsOf,
} from './parameters.ts'
import { awaitRead, readMany } from './reading.ts'
import { readRoute, searchOf } from './routes.ts'

const ordersView = 'order-search'
const termsView = 'order-search-terms'
const wordsMax = 8
/** Orders that are ranked; when more match, `truncated` says so. */
const candidatesMax = 1000
const pagesMax = 20
const pageRows = 1000

interface Candidate {
  readonly orderId: string
  /** Words that are one of its terms, and not only the beginning of one. */
  exact: number
}

interface Search {
  readonly context: ServerContext
  readonly waiting: Waiting
  readonly signal: AbortSignal
}

export function registerSearchRoutes(app: FastifyInstance, context: ServerContext): void {
  readRoute(app, '/v1/search/orders', async (request, reply) => {
    viewNamed(context.views, ordersView)
    const parameters = parseSearch(searchOf(request))
    refuseUnknown(parameters, ['q', 'limit', 'cursor', 'timeout'])
    const words = wordsOf(parameters.get('q') ?? '')
    if (words.length === 0) throw parameterError('q', 'it has no word')
    if (words.length > wordsMax) throw parameterError('q', `it has more than ${wordsMax} words`)
    const limit = limitOf(parameters)
    const from = offsetOf(cursorOf(parameters))
    const read = { context, request, reply, waitMs: waitMsOf(parameters) }
    const waiting = await awaitRead(read, wait => context.views.ready(ordersView, wait))
    const { orders, truncated, position } = await readMany(read, 'queriesActive', ({ signal }) =>
      search({ context, waiting, signal }, words),
    )
    const next = from + limit < orders.length ? cursorFor(from + limit) : null
    const page = { orders: orders.slice(from, from + limit), truncated, next, position }
    return sendJson(reply, page, position)
  })
}

/** All orders that match, ranked. */
async function search(asked: Search, words: readonly string[]) {
  let candidates: Map<string, Candidate> | undefined
  let truncated = false
  // The longest word is likely to be the rarest.
  for (const word of words.toSorted((a, b) => b.length - a.length)) {
    const { found, isCut } = await matching(asked, word)
    truncated ||= isCut
    candidates = candidates === undefined ? found : both(candidates, found)
  }
  const all = [...candidates!.values()]
  truncated ||= all.length > candidatesMax
  const { views } = asked.context
  const ranked: { row: ViewRow; exact: number }[] = []
  for (const { orderId, exact } of all.slice(0, candidatesMax)) {
    const { row } = await views.row(ordersView, orderId, { signal: asked.signal })
    if (row !== undefined) ranked.push({ row, exact })
  }
  ranked.sort((a, b) => b.exact - a.exact || newer(a.row, b.row))
  return { orders: ranked.map(({ row }) => row), truncated, position: views.position() }
}

function newer(a: ViewRow, b: ViewRow): number {
  const [at, bt] = [a, b].map(({ createdAt }) => (createdAt as number | null) ?? 0)
  return bt! - at! || (String(a.orderId) < String(b.orderId) ? -1 : 1)
}

/** The orders of the terms that begin with a word. */
async function matching({ context, waiting, signal }: Search, word: string) {
  const found = new Map<string, Candidate>()
  let cursor: string | undefined
  for (let page = 0; page < pagesMax; page++) {
    const query = {
      key: {},
      prefix: word,
      limit: pageRows,
      ...(cursor !== undefined && { cursor }),
    }
    const { rows, next } = await context.views.rows(termsView, { ...query, ...waiting, signal })
    for (const { term, orderId } of rows as readonly { term: string; orderId: string }[]) {
      const candidate = found.get(orderId) ?? { orderId, exact: 0 }
      if (term === word) candidate.exact = 1
      found.set(orderId, candidate)
    }
    if (next === null) return { found, isCut: false }
    cursor = next
  }
  return { found, isCut: true }
}

function both(a: Map<string, Candidate>, b: Map<string, Candidate>): Map<string, Candidate> {
  const found = new Map<string, Candidate>()
  for (const [orderId, { exact }] of a) {
    const other = b.get(orderId)
    if (other !== undefined) found.set(orderId, { orderId, exact: exact + other.exact })
  }
  return found
}

const cursorFor = (offset: number) => Buffer.from(`s${offset}`).toString('base64url')

function offsetOf(cursor: string | undefined): number {
  if (cursor === undefined) return 0
  const match = /^s(\d{1,4})$/.exec(Buffer.from(cursor, 'base64url').toString())
  if (match === null) throw parameterError('cursor', 'it is no cursor of a search')
  return Number(match[1])
}
