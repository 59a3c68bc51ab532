/** Numbers that a bench takes from its environment. */

/** What was asked for cannot be run; the message says what to do. */
export class Unusable extends Error {}

/** A whole number of at least 1. */
export function setting(name: string, otherwise: number): number {
  const text = process.env[name] ?? ''
  return text === '' ? otherwise : whole(name, text)
}

/** Whole numbers, with commas between. */
export function settings(name: string, otherwise: readonly number[]): readonly number[] {
  const text = process.env[name] ?? ''
  return text === '' ? otherwise : text.split(',').map(one => whole(name, one))
}

function whole(name: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new Unusable(`${name} has ${JSON.stringify(text)}: it takes whole numbers of at least 1.`)
}
