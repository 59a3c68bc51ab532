/**
 * Format, version 1: rows of a join that have no partner yet, all of one side, time and key.
 *
 *     row key = close time:time side:uint8 key      (state/keys.ts has `time`)
 *     value   = row*
 *     row     = streamTime:float64 length:uint32 value
 */
import type { Codec } from '../state/port.ts'

export interface PendingRow {
  readonly streamTimeMs: number
  readonly value: Buffer
}

export const pendingCodec: Codec<readonly PendingRow[]> = {
  encode(rows) {
    const parts: Buffer[] = []
    for (const { streamTimeMs, value } of rows) {
      const head = Buffer.allocUnsafe(12)
      head.writeDoubleBE(streamTimeMs, 0)
      head.writeUInt32BE(value.length, 8)
      parts.push(head, value)
    }
    return Buffer.concat(parts)
  },
  decode(bytes) {
    const rows: PendingRow[] = []
    for (let p = 0; p < bytes.length; ) {
      const end = p + 12 + bytes.readUInt32BE(p + 8)
      if (end > bytes.length) throw new RangeError('a pending row ends early')
      rows.push({ streamTimeMs: bytes.readDoubleBE(p), value: bytes.subarray(p + 12, end) })
      p = end
    }
    return rows
  },
}
