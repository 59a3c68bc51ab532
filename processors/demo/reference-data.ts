/**
 * What the demo world says of its customers and products: all that is known of one, when an order
 * names it for the first time. Kept in memory alone: after a restart some are told again.
 */
import type { BusinessEvent, CustomerUpdated, OrderCreated } from '../../contracts/events.ts'
import { products } from './products.ts'
import { regions } from './regions.ts'
import { SeededStream } from './seeded-stream.ts'

const firstNames = ['Ada', 'Ben', 'Chloe', 'Dan', 'Eve', 'Finn', 'Gia', 'Hugo', 'Ida', 'Jon']
const lastNames = ['Ash', 'Berg', 'Costa', 'Diaz', 'Endo', 'Faro', 'Gray', 'Holm', 'Ito', 'Jansen']
/** With their shares. */
const segments: readonly (readonly [name: string, share: number])[] = [
  ['gold', 0.1],
  ['regular', 0.55],
  ['new', 1],
]
/** Names that are remembered; then they are told anew. */
const namesMax = 200_000
const pricesMinor = new Map(products.map(product => [product.sku, product.pricesMinor[0]!]))

export class ReferenceData {
  readonly #told = new Set<string>()

  /** Events to tell before these: of whomever and whatever they name for the first time. */
  before(events: readonly BusinessEvent[]): BusinessEvent[] {
    const news: BusinessEvent[] = []
    for (const order of events) {
      if (order.type !== 'OrderCreated') continue
      if (this.#isNew(order.customerId)) news.push(customer(order))
      for (const { sku, category } of order.items) {
        if (this.#isNew(sku)) news.push(product(sku, category, order.createdAt))
      }
    }
    return news
  }

  #isNew(name: string): boolean {
    if (this.#told.has(name)) return false
    if (this.#told.size >= namesMax) this.#told.clear()
    this.#told.add(name)
    return true
  }
}

function customer({ customerId, region, createdAt }: OrderCreated): CustomerUpdated {
  const stream = new SeededStream(...Array.from(customerId, letter => letter.codePointAt(0)!))
  const name = `${stream.pick(firstNames)} ${stream.pick(lastNames)}`
  const drawn = stream.next()
  const [segment] = segments.find(([, share]) => drawn < share)!
  const email = `${customerId}@example.com`
  return { type: 'CustomerUpdated', customerId, name, email, segment, region, updatedAt: createdAt }
}

function product(sku: string, category: string, updatedAt: number): BusinessEvent {
  const name = `${category[0]!.toUpperCase()}${category.slice(1)} no. ${Number(sku.split('-').at(-1))}`
  const { currency } = regions[0]!
  const unitPriceMinor = pricesMinor.get(sku) ?? 0
  return { type: 'ProductUpdated', sku, name, category, unitPriceMinor, currency, updatedAt }
}
