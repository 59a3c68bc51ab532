/**
 * Position tokens: which part of every source partition an answer covers (law 18). Opaque to
 * clients; inside, base64url of JSON `[incarnation, {topic: [next offset of each partition]}]`,
 * and a third member, the mark, where the token also tells one state from another.
 */
import { streamsError } from './errors.ts'

/** Next offset of each partition of a topic; null where the answer does not depend on it. */
/** Offset of what has not been heard of yet: it covers nothing. */
export const UNHEARD = -1

export type Offsets = Readonly<Record<string, readonly (number | null)[]>>

export interface Position {
  readonly incarnation: string
  readonly offsets: Offsets
  /** Tells apart states with the same offsets; says nothing about what is covered. */
  readonly mark?: string | number
}

export function encodePosition({ incarnation, offsets, mark }: Position): string {
  const json = JSON.stringify([incarnation, offsets, ...(mark === undefined ? [] : [mark])])
  return Buffer.from(json).toString('base64url')
}

/** Throws POSITION_INVALID on anything `encodePosition` did not write. */
export function decodePosition(token: string): Position {
  try {
    const [incarnation, offsets, mark] = JSON.parse(Buffer.from(token, 'base64url').toString()) as [
      unknown,
      unknown,
      unknown,
    ]
    if (typeof incarnation !== 'string' || typeof offsets !== 'object' || offsets === null) throw 0
    for (const list of Object.values(offsets)) {
      if (!Array.isArray(list) || !list.every(isOffset)) throw 0
    }
    if (mark === undefined) return { incarnation, offsets: offsets as Offsets }
    if (typeof mark !== 'string' && typeof mark !== 'number') throw 0
    return { incarnation, offsets: offsets as Offsets, mark }
  } catch (cause) {
    throw streamsError('POSITION_INVALID', {}, { cause })
  }
}

const isOffset = (offset: unknown) => offset === null || Number.isSafeInteger(offset)

/** True when `reached` has everything that `wanted` has; what is not read here does not count. */
export function covers(reached: Offsets, wanted: Offsets): boolean {
  return Object.entries(wanted).every(([topic, offsets]) => {
    const mine = reached[topic]
    return (
      mine === undefined ||
      offsets.every((offset, i) => offset === null || mine[i] == null || mine[i] >= offset)
    )
  })
}

/** What all of them cover: the least offset of each partition that any of them depends on. */
export function leastOffsets(all: readonly Offsets[]): Offsets {
  const least: Record<string, (number | null)[]> = {}
  for (const offsets of all) {
    for (const [topic, list] of Object.entries(offsets)) {
      const known = (least[topic] ??= [])
      list.forEach((offset, i) => {
        while (known.length <= i) known.push(null)
        if (offset !== null) known[i] = Math.min(known[i] ?? offset, offset)
      })
    }
  }
  return least
}
