/**
 * Sums of money and counts. A result beyond 2^53 − 1 throws a RangeError, so that the engine puts
 * the record aside as `overflow`: it is never rounded or wrapped.
 */

export function addSafe(a: number, b: number): number {
  return safe(a + b, 'a sum')
}

export function multiplySafe(a: number, b: number): number {
  return safe(a * b, 'a product')
}

function safe(result: number, what: string): number {
  // Both operands are safe integers: a result that is not one has passed the bound.
  if (Number.isSafeInteger(result)) return result
  throw new RangeError(`${what} would pass 2^53 - 1`)
}
