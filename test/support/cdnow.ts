/** The CDNOW purchases as event lines; test/data/README.md has the mapping. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { root } from './processes.ts'

export const cdnowPath = join(root, 'test/data/CDNOW_master.txt.gz')

/** The data lines of the file, without the header. */
export function cdnowPurchases(): string[] {
  const text = gunzipSync(readFileSync(cdnowPath)).toString('latin1')
  return text.split('\r\n').slice(1, -1)
}

interface TimedLine {
  readonly timestamp: number
  readonly text: string
}

/** `11.77` as 1177, without a float on the way. */
function cents(dollars: string): number {
  const digits = /^(\d+)\.(\d\d)$/.exec(dollars)
  if (digits === null) throw new Error(`not dollars and cents: ${dollars}`)
  return Number(digits[1] + digits[2])
}

function eventsOf(purchase: string, number: number): TimedLine[] {
  const [customer, date, cds, dollars] = purchase.trim().split(/\s+/)
  const line = String(number).padStart(5, '0')
  const orderId = `cdnow-${line}`
  const noon = Date.parse(`${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}T12:00:00Z`)
  const createdAt = noon + (number % 720) * 30_000
  const quantity = Number(cds)
  const totalMinor = cents(dollars)
  const unitPriceMinor = Math.floor(totalMinor / quantity)
  const order = {
    orderId,
    customerId: `c-${customer}`,
    region: 'us',
    currency: 'USD',
    items: [{ sku: 'cd', category: 'music', quantity, unitPriceMinor }],
    totalMinor,
    createdAt,
  }
  const created = {
    topic: 'orders',
    type: 'OrderCreated',
    key: orderId,
    timestamp: createdAt,
    value: order,
    headers: { ce_id: `${orderId}-order` },
  }
  const events: TimedLine[] = [{ timestamp: createdAt, text: JSON.stringify(created) }]
  if (totalMinor === 0) return events
  const authorizedAt = createdAt + 1000 + (number % 20) * 1000
  const paid = {
    topic: 'payments',
    type: 'PaymentAuthorized',
    key: orderId,
    timestamp: authorizedAt,
    value: {
      paymentId: `pay-${line}`,
      orderId,
      amountMinor: totalMinor,
      currency: 'USD',
      method: 'card',
      authorizedAt,
    },
    headers: { ce_id: `${orderId}-payment` },
  }
  events.push({ timestamp: authorizedAt, text: JSON.stringify(paid) })
  return events
}

/** NDJSON lines, without their ends, in the order of event time. */
export function cdnowLines(purchases: readonly string[] = cdnowPurchases()): string[] {
  const events = purchases.flatMap((purchase, i) => eventsOf(purchase, i + 1))
  // The sort is stable: equal times keep the order of the file.
  return events.sort((a, b) => a.timestamp - b.timestamp).map(event => event.text)
}

/** The events of the purchase on a line, in the order in which they happened. */
export function purchaseLines(purchase: string, number: number): string[] {
  return eventsOf(purchase, number).map(event => event.text)
}
