/** Sketches as aggregates: they are added to in place, so their codecs are mutable. */
import type { Codec } from '../../state/port.ts'
import { DDSketch } from './ddsketch.ts'
import { HyperLogLog } from './hyperloglog.ts'

export const hyperLogLogCodec: Codec<HyperLogLog> = {
  mutable: true,
  encode: sketch => sketch.toBytes(),
  decode: bytes => HyperLogLog.fromBytes(bytes),
}

export const ddSketchCodec: Codec<DDSketch> = {
  mutable: true,
  encode: sketch => sketch.toBytes(),
  decode: bytes => DDSketch.fromBytes(bytes),
}
