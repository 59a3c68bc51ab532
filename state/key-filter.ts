/**
 * Tells of most keys that were never added that they were not, in about 12 bits a key: a Bloom
 * filter that grows by layers. Nothing is ever removed.
 */
import type { RowKey } from './port.ts'

const LAYER_KEYS_FIRST = 1024
const LAYER_GROWTH = 4
const BITS_A_KEY = 12
/** Probes a key: with 12 bits a key about 1 of 300 others passes a full layer. */
const PROBES = 6

interface Layer {
  readonly words: Uint32Array
  /** Bits less one; their number is a power of two. */
  readonly mask: number
  readonly keysMax: number
  keys: number
}

function layerOf(keysMax: number): Layer {
  const bits = 2 ** Math.ceil(Math.log2(keysMax * BITS_A_KEY))
  return { words: new Uint32Array(bits / 32), mask: bits - 1, keysMax, keys: 0 }
}

export class KeyFilter {
  readonly #layers: Layer[] = [layerOf(LAYER_KEYS_FIRST)]
  /** The two hashes of the key at hand. */
  #first = 0
  #second = 0

  get bytes(): number {
    return this.#layers.reduce((sum, { words }) => sum + words.byteLength, 0)
  }

  add(key: RowKey): void {
    this.#hash(key)
    for (const layer of this.#layers) if (this.#isIn(layer)) return
    let layer = this.#layers.at(-1)!
    if (layer.keys >= layer.keysMax) {
      layer = layerOf(layer.keysMax * LAYER_GROWTH)
      this.#layers.push(layer)
    }
    const { words, mask } = layer
    let hash = this.#first
    for (let probe = 0; probe < PROBES; probe++) {
      const bit = hash & mask
      words[bit >>> 5]! |= 1 << (bit & 31)
      hash = (hash + this.#second) | 0
    }
    layer.keys++
  }

  /** False: the key was not added. */
  mayHave(key: RowKey): boolean {
    this.#hash(key)
    // Most keys are in the last, which is the largest.
    for (let i = this.#layers.length - 1; i >= 0; i--) {
      if (this.#isIn(this.#layers[i]!)) return true
    }
    return false
  }

  #isIn({ words, mask }: Layer): boolean {
    let hash = this.#first
    for (let probe = 0; probe < PROBES; probe++) {
      const bit = hash & mask
      if ((words[bit >>> 5]! & (1 << (bit & 31))) === 0) return false
      hash = (hash + this.#second) | 0
    }
    return true
  }

  /** Two runs of one multiplicative hash over the units, finished so that every bit counts. */
  #hash(key: RowKey): void {
    let a = 0x9747b28c
    let b = 0x3c6ef372
    for (let i = 0; i < key.length; i++) {
      const unit = key.charCodeAt(i)
      a = Math.imul(a ^ unit, 0x5bd1e995)
      a ^= a >>> 15
      b = Math.imul(b + unit, 0x85ebca6b)
    }
    a = Math.imul(a ^ (a >>> 13), 0xc2b2ae35)
    this.#first = a ^ (a >>> 16)
    b = Math.imul(b ^ (b >>> 16), 0x27d4eb2f)
    // Odd, so that the probes are different bits.
    this.#second = (b ^ (b >>> 15)) | 1
  }
}
