/** What the demo world sells: 240 products in 12 categories. */
import { type Region, regions } from './regions.ts'
import { runningSums, SeededStream } from './seeded-stream.ts'

export interface Product {
  readonly sku: string
  readonly category: string
  /** By region index: minor units of its currency. */
  readonly pricesMinor: readonly number[]
}

/** Category, typical price in euro cents, share of sales. */
const categories: readonly (readonly [name: string, priceCents: number, weight: number])[] = [
  ['books', 1400, 14],
  ['music', 1700, 8],
  ['games', 4500, 9],
  ['electronics', 12_000, 9],
  ['home', 3800, 10],
  ['garden', 2900, 6],
  ['kitchen', 3400, 9],
  ['clothing', 4200, 13],
  ['shoes', 7500, 6],
  ['beauty', 2100, 8],
  ['toys', 2600, 7],
  ['sports', 5200, 6],
]
const perCategory = 20
/** Prices are the same in every world, whatever its seed. */
const priceSeed = 20_260_101

function priceIn(region: Region, euroCents: number): number {
  const { minorPerEuroCent, priceStep } = region
  const steps = Math.max(1, Math.round((euroCents * minorPerEuroCent) / priceStep))
  return steps * priceStep - (priceStep > 10 ? 1 : 0)
}

function productsOf(category: number): Product[] {
  const [name, priceCents] = categories[category]
  return Array.from({ length: perCategory }, (_, i) => {
    const spread = Math.exp(0.55 * new SeededStream(priceSeed, category, i).normal())
    return {
      sku: `${name}-${String(i + 1).padStart(3, '0')}`,
      category: name,
      pricesMinor: regions.map(region => priceIn(region, priceCents * spread)),
    }
  })
}

export const products: readonly Product[] = categories.flatMap((_, i) => productsOf(i))
export const categoryCount = categories.length
export const categorySums = runningSums(categories.map(([, , weight]) => weight))

/** A product of the category; low ranks sell most. */
export function productOf(category: number, stream: SeededStream): Product {
  return products[category * perCategory + stream.zipf(perCategory)]
}
