/** Reads rows over HTTP, page by page. Works in browsers and in Node: `fetch` is an argument. */
import type { LiveFilter, LiveRow } from '../contracts/live.ts'

/** A problem document (RFC 9457) as an error; `code` is stable. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError'
  readonly status: number
  readonly code: string
  /** All members of the document. */
  readonly problem: Readonly<Record<string, unknown>>

  constructor(status: number, problem: Readonly<Record<string, unknown>>) {
    super(typeof problem.detail === 'string' ? problem.detail : `HTTP status ${status}`)
    this.status = status
    this.code = typeof problem.code === 'string' ? problem.code : 'UNKNOWN'
    this.problem = problem
  }
}

export interface RowsPage<Row> {
  readonly rows: readonly Row[]
  /** Consistency token: the cut that the rows show. */
  readonly position: string
  readonly next: string | null
}

export interface RowsRequest {
  /** `https://host:port`; empty in a page of the server itself. */
  readonly baseUrl: string
  readonly view: string
  /** Key fields, `prefix`, `from`, `to`. */
  readonly filter?: LiveFilter
  /** Of a versioned view: the rows as of this event time, epoch ms or ISO 8601. */
  readonly asOf?: number | string
  /** Rows a page, 1 to 1000. */
  readonly limit?: number
  /** Wait until the view covers this token, for example that of a write. */
  readonly position?: string
  /** How long to wait for it, ms. */
  readonly timeoutMs?: number
  readonly apiKey?: string
  readonly signal?: AbortSignal
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** Yields the pages in view order. Throws `ProblemError`. */
export async function* fetchRows<Row = LiveRow>(
  fetch: Fetch,
  request: RowsRequest,
): AsyncGenerator<RowsPage<Row>> {
  let cursor: string | null = null
  do {
    const page: RowsPage<Row> = await fetchPage<Row>(fetch, request, cursor)
    yield page
    cursor = page.next
  } while (cursor !== null)
}

async function fetchPage<Row>(
  fetch: Fetch,
  request: RowsRequest,
  cursor: string | null,
): Promise<RowsPage<Row>> {
  const { baseUrl, view, filter = {}, asOf, limit, timeoutMs } = request
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(filter)) parameters.set(name, String(value))
  if (asOf !== undefined) parameters.set('asOf', String(asOf))
  if (limit !== undefined) parameters.set('limit', String(limit))
  if (timeoutMs !== undefined) parameters.set('timeout', String(timeoutMs))
  if (cursor !== null) parameters.set('cursor', cursor)
  const headers: Record<string, string> = {}
  if (request.position !== undefined) headers['Millrace-Position'] = request.position
  if (request.apiKey !== undefined) headers.Authorization = `Bearer ${request.apiKey}`
  const url = `${baseUrl}/v1/views/${encodeURIComponent(view)}/rows?${parameters}`
  const response = await fetch(url, { headers, ...(request.signal && { signal: request.signal }) })
  if (response.ok) return (await response.json()) as RowsPage<Row>
  const problem: unknown = await response.json().catch(() => ({}))
  throw new ProblemError(response.status, problem as Record<string, unknown>)
}
