import fc from 'fast-check'
import { expect, test } from 'vitest'
import { crc32c } from '../../../log/crc32c.ts'
import { keepCommitted } from '../../../log/kafka/committed-batches.ts'
import { AT, ATTRIBUTE } from '../../../log/record-batch.ts'
import { makeBatch, pairs } from '../batches.ts'

/** A partition as its leader has it: batches, and the aborted transactions it indexes. */
class Leader {
  readonly batches: { readonly bytes: Buffer; readonly last: number }[] = []
  readonly aborted: { producerId: number; firstOffset: number; lastOffset: number }[] = []
  /** First offset of each open transaction. */
  readonly open = new Map<number, number>()
  readonly #lines: { line: string; producerId: number | undefined; first: number }[] = []
  readonly #ends = new Map<string, 'commit' | 'abort'>()
  end = 0

  append(producerId: number | undefined, records: number): void {
    const first = producerId === undefined ? -1 : (this.open.get(producerId) ?? this.end)
    if (producerId !== undefined) this.open.set(producerId, first)
    const values = Array.from({ length: records }, (_, i) => `${producerId}-${this.end + i}`)
    for (const [i, value] of values.entries()) {
      this.#lines.push({ line: `${this.end + i} k=${value}`, producerId, first })
    }
    const bytes = makeBatch(
      values.map(value => ({ key: 'k', value })),
      { baseOffset: this.end, producerId, transactional: producerId !== undefined },
    )
    this.#add(bytes, records)
  }

  finish(producerId: number, type: 'commit' | 'abort'): void {
    const firstOffset = this.open.get(producerId)
    if (firstOffset === undefined) return
    this.open.delete(producerId)
    this.#ends.set(`${producerId}/${firstOffset}`, type)
    if (type === 'abort') this.aborted.push({ producerId, firstOffset, lastOffset: this.end })
    this.#add(markerOf(producerId, type, this.end), 1)
  }

  get stableEnd(): number {
    return Math.min(this.end, ...this.open.values())
  }

  /** What a reader from `offset` is to see. */
  visible(offset: number): string[] {
    return this.#lines
      .filter(({ line, producerId, first }) => {
        const at = Number(line.split(' ')[0])
        const isCommitted =
          producerId === undefined || this.#ends.get(`${producerId}/${first}`) === 'commit'
        return at >= offset && at < this.stableEnd && isCommitted
      })
      .map(({ line }) => line)
  }

  /** As a broker answers: whole batches up to a count, then a piece of the next. */
  fetch(offset: number, batchesMax: number, pieceBytes: number) {
    const readable = this.batches.filter(({ last }) => last >= offset && last < this.stableEnd)
    const taken = readable.slice(0, batchesMax)
    const upTo = readable[batchesMax]?.last ?? this.stableEnd
    const piece = readable[batchesMax]?.bytes.subarray(0, pieceBytes) ?? Buffer.alloc(0)
    const aborted = this.aborted.filter(
      ({ firstOffset, lastOffset }) => lastOffset >= offset && firstOffset <= upTo,
    )
    const whole = piece.length < (readable[batchesMax]?.bytes.length ?? 1) ? piece : Buffer.alloc(0)
    return { aborted, records: Buffer.concat([...taken.map(({ bytes }) => bytes), whole]) }
  }

  #add(bytes: Buffer, records: number): void {
    this.end += records
    this.batches.push({ bytes, last: this.end - 1 })
  }
}

function markerOf(producerId: number, type: 'commit' | 'abort', baseOffset: number): Buffer {
  const key = `\0\0\0${type === 'abort' ? '\0' : '\x01'}`
  const batch = makeBatch([{ key, value: '\0\0\0\0\0\0' }], { producerId, baseOffset })
  batch.writeInt16BE(ATTRIBUTE.transactional | ATTRIBUTE.control, AT.attributes)
  batch.writeUInt32BE(crc32c(batch, AT.attributes, batch.length), AT.crc)
  return batch
}

const producer = fc.constantFrom(7, 8, 9)
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(fc.constant('append' as const), producer, fc.integer({ min: 1, max: 3 })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constant('plain' as const), producer, fc.integer({ min: 1, max: 3 })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(
      fc.constantFrom('commit' as const, 'abort' as const),
      producer,
      fc.constant(0),
    ),
  },
)

test('a reader sees what was committed, wherever it begins and however answers are cut', () => {
  const cuts = fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.nat(200)), { minLength: 1 })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), cuts, fc.nat(60), (steps, sizes, start) => {
      const leader = new Leader()
      for (const [kind, id, records] of steps) {
        if (kind === 'append') leader.append(id, records)
        else if (kind === 'plain') leader.append(undefined, records)
        else leader.finish(id, kind)
      }
      const from = Math.min(start, leader.stableEnd)
      const seen: string[] = []
      let offset = from
      for (let i = 0; offset < leader.stableEnd; i++) {
        const [batches, piece] = sizes[i % sizes.length]
        const { aborted, records } = leader.fetch(offset, batches, piece)
        const { bytes, nextOffset } = keepCommitted(records, aborted, offset)
        seen.push(...pairs(bytes, { fromOffset: offset }))
        expect(nextOffset).toBeGreaterThan(offset)
        offset = nextOffset
      }
      expect(seen).toEqual(leader.visible(from))
    }),
    { seed: 11, numRuns: 500 },
  )
})

test('a range in which everything was aborted has no bytes and is passed', () => {
  const leader = new Leader()
  leader.append(7, 3)
  leader.finish(7, 'abort')
  const { aborted, records } = leader.fetch(0, 9, 0)
  expect(keepCommitted(records, aborted, 0)).toEqual({ bytes: Buffer.alloc(0), nextOffset: 4 })
})

test('a marker that compaction has emptied ends nothing, and is no record', () => {
  const leader = new Leader()
  leader.append(7, 1)
  leader.finish(7, 'commit')
  const marker = leader.batches[1].bytes
  const emptied = Buffer.from(marker.subarray(0, AT.records))
  emptied.writeInt32BE(AT.records - 12, AT.batchLength)
  emptied.writeInt32BE(0, AT.recordCount)
  const { bytes, nextOffset } = keepCommitted(
    Buffer.concat([leader.batches[0].bytes, emptied]),
    [],
    0,
  )
  expect([pairs(bytes), nextOffset]).toEqual([['0 k=7-0'], 2])
})

test('bytes that are no batch are left for the decoder to complain about', () => {
  const leader = new Leader()
  leader.append(7, 1)
  leader.finish(7, 'commit')
  leader.append(undefined, 1)
  const records = Buffer.concat(leader.batches.map(batch => batch.bytes))
  const bad = leader.batches[0].bytes.length + leader.batches[1].bytes.length
  records[bad + AT.magic] = 9
  const { bytes, nextOffset } = keepCommitted(records, [], 0)
  expect(nextOffset).toBe(2)
  expect(() => pairs(bytes)).toThrow('format version 9')
})
