/** One order's story through all services: one trace, and what each event follows from. */
import { expect, test } from 'vitest'
import { serviceTopologies } from '../../../processors/services/services.ts'
import type { ServiceSettings } from '../../../processors/services/settings.ts'
import { Random } from '../../support/random.ts'
import { customersStory, minuteMs, type SagaRecord, storyStartMs } from '../../support/saga.ts'
import {
  appendRecords,
  closeServices,
  finish,
  openServices,
  saidByServices,
  type WrittenEvent,
  writtenEvents,
} from '../../support/saga-run.ts'
import { keptSpans, orphans, type SeenSpan } from '../../support/spans.ts'

const ROOT = 'b7ad6b7169203331'
const traceId = (order: number) => `${order + 1}`.padStart(32, '0')

/** Every third order is sampled, each in a trace of its own. */
function sampled(records: readonly SagaRecord[]): SagaRecord[] {
  return records.map(record => {
    const order = Number(/^o-(\d+)$/.exec(record.key)?.[1] ?? 1)
    if (record.value.type !== 'OrderCreated' || order % 3 !== 0) return record
    const traceparent = `00-${traceId(order)}-${ROOT}-01`
    return { ...record, headers: { ...record.headers, traceparent } }
  })
}

async function run(saga: ServiceSettings['saga']) {
  let nowMs = storyStartMs + 24 * 60 * minuteMs
  const { tracing, ended } = keptSpans({ clock: () => ++nowMs })
  const drivers = await openServices(serviceTopologies({ saga, seed: 7, openingStock: 0 }), {
    tracing,
  })
  const records = customersStory(new Random(3), { orders: 30, stock: 60 })
  await appendRecords(drivers[0]!.log, sampled(records))
  await finish(drivers)
  const events = await writtenEvents(drivers[0]!.log)
  await closeServices(drivers)
  return { events, said: saidByServices(events), ended }
}

const tracedOf = ({ headers }: WrittenEvent) => headers.traceparent?.split('-')[1]

/** Names of the spans from one to the first, and the ids of what was sent there. */
function pathOf(span: SeenSpan, byId: ReadonlyMap<string, SeenSpan>): (string | undefined)[] {
  const path: (string | undefined)[] = []
  for (let at: SeenSpan | undefined = span; at !== undefined; at = byId.get(at.parent ?? '')) {
    if (at.name.startsWith('send ')) path.push(at.attributes['messaging.message.id'] as string)
  }
  return path
}

test.each(['choreographed', 'orchestrated'] as const)(
  '%s: all that comes of a sampled order is in its trace, below the event that it follows from',
  async saga => {
    const { said, ended } = await run(saga)
    const byId = new Map(ended.map(span => [span.context.spanId, span]))
    expect(orphans(ended, ROOT)).toEqual([])
    const types = new Set<string>()
    for (const event of said) {
      const order = Number(/^o-(\d+)$/.exec(event.headers.correlationid!)![1])
      const wanted = order % 3 === 0 ? traceId(order) : undefined
      const { ce_id, causationid, traceparent } = event.headers
      expect([ce_id, tracedOf(event)]).toEqual([ce_id, wanted])
      if (traceparent === undefined) continue
      types.add(event.event.type)
      const [own, ...before] = pathOf(byId.get(traceparent.split('-')[2]!)!, byId)
      expect(own).toBe(ce_id)
      // What the customer did was sent by nobody here.
      expect([...before, `o-${order}.created`]).toContain(causationid)
    }
    expect([...types].sort()).toEqual(
      expect.arrayContaining([
        'InventoryReserved',
        'NotificationRequested',
        'OrderFulfilled',
        'OrderShipped',
        'PaymentAuthorized',
      ]),
    )
  },
)

test('sampled or not, each event says which story it is of, and which event it follows from', async () => {
  const { events, said } = await run('choreographed')
  const ids = new Set(events.map(({ headers }) => headers.ce_id))
  expect(said.length).toBeGreaterThan(100)
  for (const { headers, event } of said) {
    expect(headers.correlationid).toMatch(/^o-\d+$/)
    expect(ids, `${headers.ce_id} follows from ${headers.causationid}`).toContain(
      headers.causationid,
    )
    expect(headers.ce_type).toBe(event.type)
  }
})
