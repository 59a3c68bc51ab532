/** The server's own counters, and the OpenMetrics text of these and the engine's samples. */
import type { MetricSample } from '../streams/views.ts'

export const openMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

/** Gauges and counters of the server; whoever causes a change writes it here. */
export interface ServerMetrics {
  requestsActive: number
  queriesActive: number
  peerQueriesActive: number
  socketsOpen: number
  streamsOpen: number
  subscriptionsOpen: number
  framesSent: number
  bytesSent: number
  framesEncoded: number
  conflations: number
  slowClientsClosed: number
  /** `method route status` → count. */
  readonly requests: Map<string, number>
}

export function createServerMetrics(): ServerMetrics {
  return {
    requestsActive: 0,
    queriesActive: 0,
    peerQueriesActive: 0,
    socketsOpen: 0,
    streamsOpen: 0,
    subscriptionsOpen: 0,
    framesSent: 0,
    bytesSent: 0,
    framesEncoded: 0,
    conflations: 0,
    slowClientsClosed: 0,
    requests: new Map(),
  }
}

/** Routes are patterns and statuses few, so the map stays small. */
export function countRequest(metrics: ServerMetrics, labels: readonly string[]): void {
  const key = labels.join(' ')
  metrics.requests.set(key, (metrics.requests.get(key) ?? 0) + 1)
}

const described: readonly [keyof ServerMetrics, MetricSample['kind'], string, string][] = [
  ['requestsActive', 'gauge', 'http_server_active_requests', 'Requests being answered.'],
  ['queriesActive', 'gauge', 'view_queries_active', 'Queries of rows being answered.'],
  ['peerQueriesActive', 'gauge', 'peer_queries_active', 'The same, for other instances.'],
  ['socketsOpen', 'gauge', 'live_sockets', 'Open live sockets.'],
  ['streamsOpen', 'gauge', 'live_streams', 'Open event streams (SSE).'],
  ['subscriptionsOpen', 'gauge', 'live_subscriptions', 'Open subscriptions.'],
  ['framesSent', 'counter', 'live_frames_sent_total', 'Messages sent to subscribers.'],
  ['bytesSent', 'counter', 'live_bytes_sent_total', 'Message bytes sent to subscribers.'],
  ['framesEncoded', 'counter', 'live_frames_encoded_total', 'Deltas encoded, shared by clients.'],
  ['conflations', 'counter', 'live_conflations_total', 'Times a slow client was conflated.'],
  ['slowClientsClosed', 'counter', 'live_slow_clients_closed_total', 'Clients closed as too slow.'],
]

export function serverSamples(metrics: ServerMetrics): MetricSample[] {
  const samples: MetricSample[] = []
  for (const [field, kind, name, help] of described) {
    samples.push({ name, help, kind, labels: {}, value: metrics[field] as number })
  }
  for (const [key, value] of metrics.requests) {
    const [method = '', route = '', status = ''] = key.split(' ')
    const name = 'http_server_requests_total'
    const labels = { method, route, status }
    samples.push({ name, help: 'Requests answered.', kind: 'counter', labels, value })
  }
  return samples
}

/** OpenMetrics 1.0: samples of one family stand together; a counter's family lacks `_total`. */
export function openMetrics(samples: readonly MetricSample[]): string {
  const families = new Map<string, MetricSample[]>()
  for (const sample of samples) {
    const family = familyOf(sample)
    const members = families.get(family)
    if (members === undefined) families.set(family, [sample])
    else members.push(sample)
  }
  let text = ''
  for (const [family, members] of families) {
    text += `# TYPE ${family} ${members[0]!.kind}\n`
    text += `# HELP ${family} ${escapeHelp(members[0]!.help)}\n`
    for (const sample of members) {
      const name = sample.kind === 'counter' ? `${family}_total` : family
      text += `${name}${labelsOf(sample)} ${numberOf(sample.value)}\n`
    }
  }
  return `${text}# EOF\n`
}

function familyOf(sample: MetricSample): string {
  const name = sample.name.replace(/[^a-zA-Z0-9_:]/g, '_')
  return sample.kind === 'counter' ? name.replace(/_total$/, '') : name
}

function labelsOf(sample: MetricSample): string {
  const entries = Object.entries(sample.labels)
  if (entries.length === 0) return ''
  const parts = entries.map(([name, value]) => {
    return `${name.replace(/[^a-zA-Z0-9_]/g, '_')}="${escapeLabel(value)}"`
  })
  return `{${parts.join(',')}}`
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"')
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function numberOf(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (Number.isFinite(value)) return String(value)
  return value > 0 ? '+Inf' : '-Inf'
}
