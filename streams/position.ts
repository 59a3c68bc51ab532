/**
 * Position tokens: which part of every source partition an answer covers (law 18). Opaque to
 * clients; inside, base64url of JSON `[incarnation, {topic: [next offset of each partition]}]`.
 */
import { streamsError } from './errors.ts'

/** Next offset of each partition of a topic; null where the answer does not depend on it. */
/** Offset of what has not been heard of yet: it covers nothing. */
export const UNHEARD = -1

export type Offsets = Readonly<Record<string, readonly (number | null)[]>>

export interface Position {
  readonly incarnation: string
  readonly offsets: Offsets
}

export function encodePosition(position: Position): string {
  const json = JSON.stringify([position.incarnation, position.offsets])
  return Buffer.from(json).toString('base64url')
}

/** Throws POSITION_INVALID on anything `encodePosition` did not write. */
export function decodePosition(token: string): Position {
  try {
    const [incarnation, offsets] = JSON.parse(Buffer.from(token, 'base64url').toString()) as [
      unknown,
      unknown,
    ]
    if (typeof incarnation !== 'string' || typeof offsets !== 'object' || offsets === null) throw 0
    for (const list of Object.values(offsets)) {
      if (!Array.isArray(list) || !list.every(isOffset)) throw 0
    }
    return { incarnation, offsets: offsets as Offsets }
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
