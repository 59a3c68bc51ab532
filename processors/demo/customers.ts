/** Who orders in the demo world. A customer's habits follow from the number alone. */
import { categorySums } from './products.ts'
import { regions } from './regions.ts'
import { SeededStream } from './seeded-stream.ts'

export interface Customer {
  readonly id: string
  readonly favouriteCategory: number
  readonly method: string
  /** Tries again and again when a payment is declined. */
  readonly stubborn: boolean
}

export interface PaymentMethod {
  readonly name: string
  /** Share of customers who prefer it. */
  readonly weight: number
  /** Share of attempts that are authorized. */
  readonly authorized: number
}

export const methods: readonly PaymentMethod[] = [
  { name: 'card', weight: 52, authorized: 0.945 },
  { name: 'wallet', weight: 24, authorized: 0.97 },
  { name: 'bank-transfer', weight: 10, authorized: 0.985 },
  { name: 'pay-later', weight: 9, authorized: 0.9 },
  { name: 'gift-card', weight: 5, authorized: 0.96 },
]
const methodWeight = methods.reduce((sum, method) => sum + method.weight, 0)
/** Prime, so that the ids of the busiest customers are not 1, 2, 3. */
const stride = 999_983

export function methodOf(name: string): PaymentMethod {
  return methods.find(method => method.name === name)!
}

/** Any method, by its share. */
export function pickMethod(stream: SeededStream): string {
  let rest = stream.next() * methodWeight
  for (const method of methods) {
    rest -= method.weight
    if (rest < 0) return method.name
  }
  return methods[0].name
}

/**
 * A customer of the region, of `customers` in the whole world. Some order eight times as often
 * as the mean; more would be more payments than one person makes.
 */
export function pickCustomer(
  regionIndex: number,
  customers: number,
  stream: SeededStream,
): Customer {
  const count = Math.ceil(customers * regions[regionIndex].share)
  return customerOf(regionIndex, (stream.zipf(count, count / 50) * stride) % count)
}

function customerOf(regionIndex: number, number: number): Customer {
  const habits = new SeededStream(regionIndex, number, 77)
  return {
    id: `c-${regions[regionIndex].name}-${String(number).padStart(6, '0')}`,
    favouriteCategory: habits.pickWeighted(categorySums),
    method: pickMethod(habits),
    stubborn: habits.chance(0.03),
  }
}
