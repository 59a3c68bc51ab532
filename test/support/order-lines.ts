/** Event lines of orders and payments, made from a number: the same number, the same line. */

export interface OrderLines {
  readonly order: string
  readonly payment: string
}

const regions = ['eu', 'us', 'asia']

/** Order `i` and its payment 40 s later; ids in the headers, so that a repeat is the same event. */
export function orderLines(i: number, startMs: number): OrderLines {
  const orderId = `order-${i}`
  const createdAt = startMs + i * 1000
  const currency = 'EUR'
  const amountMinor = 1000 + (i % 7) * 10
  const item = { sku: `sku-${i % 5}`, category: `c${i % 3}`, quantity: 1 + (i % 3) }
  const items = [{ ...item, unitPriceMinor: 500 }]
  const order = {
    topic: 'orders',
    type: 'OrderCreated',
    key: orderId,
    timestamp: createdAt,
    headers: { ce_id: `${orderId}-created` },
    value: {
      orderId,
      customerId: `customer-${i % 20}`,
      region: regions[i % regions.length],
      currency,
      items,
      totalMinor: amountMinor,
      createdAt,
    },
  }
  const authorizedAt = createdAt + 40_000
  const payment = {
    topic: 'payments',
    type: 'PaymentAuthorized',
    key: orderId,
    timestamp: authorizedAt,
    headers: { ce_id: `${orderId}-paid` },
    value: {
      paymentId: `payment-${i}`,
      orderId,
      amountMinor,
      currency,
      method: i % 2 === 0 ? 'card' : 'wallet',
      authorizedAt,
    },
  }
  return { order: JSON.stringify(order), payment: JSON.stringify(payment) }
}

/** Both events of orders `[from, to)`, order before payment. */
export function eventLines(from: number, to: number, startMs: number): string[] {
  const lines: string[] = []
  for (let i = from; i < to; i++) {
    const { order, payment } = orderLines(i, startMs)
    lines.push(order, payment)
  }
  return lines
}
