import { expect, test } from 'vitest'
import { openMetrics } from '../../api/metrics.ts'
import { figuresOf } from '../../dashboards/metrics-text.ts'
import type { MetricSample } from '../../streams/views.ts'

function sample(name: string, value: number, labels: Record<string, string>): MetricSample {
  return { name, value, labels, help: 'Help.', kind: name.endsWith('_total') ? 'counter' : 'gauge' }
}

test('figures are read from what the server writes', () => {
  const text = openMetrics([
    sample('stream_time_ms', 1_760_000_000_000, { topic: 'orders', partition: '0' }),
    sample('stream_time_ms', 1_760_000_000_500, { topic: 'orders', partition: '1' }),
    sample('records_lag', 3, { topic: 'orders' }),
    sample('records_lag', 4, { topic: 'payments' }),
    sample('dropped_records_total', 5, { step: 'a "quoted", {step}', reason: 'late' }),
    sample('dropped_records_total', 2, { step: 'revenue', reason: 'late' }),
    sample('dropped_records_total', 1, { step: 'revenue', reason: 'poison' }),
    sample('dead_letters_open', 3, { application: 'analytics' }),
    sample('dead_letters_open', 4, { application: 'order' }),
  ])
  expect(figuresOf(text)).toEqual({
    newestEventMs: 1_760_000_000_500,
    backlog: 7,
    late: 7,
    dropped: 8,
    openLetters: 7,
    lateByStep: new Map([
      ['a \\"quoted\\", {step}', 5],
      ['revenue', 2],
    ]),
  })
})

test('before any event there is no newest one', () => {
  expect(figuresOf(openMetrics([])).newestEventMs).toBeUndefined()
})
