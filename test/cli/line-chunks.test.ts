import fc from 'fast-check'
import { expect, test } from 'vitest'
import { lineChunks } from '../../cli/line-chunks.ts'

async function chunksOf(
  parts: readonly Buffer[],
  limits: { lines: number; bytes: number; lineBytes: number },
) {
  async function* source() {
    yield* parts
  }
  const chunks: { text: string; linesBefore: number; bytesRead: number }[] = []
  for await (const { bytes, ...rest } of lineChunks(source(), limits)) {
    chunks.push({ text: bytes.toString(), ...rest })
  }
  return chunks
}

test('chunks hold whole lines, and tell how many came before', async () => {
  const limits = { lines: 2, bytes: 100, lineBytes: 100 }
  expect(await chunksOf([Buffer.from('a\nb'), Buffer.from('b\n\nd')], limits)).toEqual([
    { text: 'a\nbb\n', linesBefore: 0, bytesRead: 5 },
    { text: '\nd\n', linesBefore: 2, bytesRead: 7 },
  ])
})

test('of a line that is too long no more is kept than tells so', async () => {
  const limits = { lines: 10, bytes: 100, lineBytes: 4 }
  const parts = [Buffer.from('abc'), Buffer.from('defghi'), Buffer.from('j\nk\n')]
  expect((await chunksOf(parts, limits)).map(({ text }) => text)).toEqual(['abcd\nk\n'])
})

test('the lines are those of the file, however it is read and cut', async () => {
  const line = fc.string({ unit: fc.constantFrom('a', 'é', '{', ' '), maxLength: 8 })
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 40 }),
      async (lines, cuts, linesMax, bytesMax) => {
        const file = Buffer.from(lines.map(each => `${each}\n`).join(''))
        const parts: Buffer[] = []
        for (let at = 0, i = 0; at < file.length; i++) {
          const end = at + cuts[i % cuts.length]!
          parts.push(file.subarray(at, end))
          at = end
        }
        const limits = { lines: linesMax, bytes: bytesMax, lineBytes: 100 }
        const chunks = await chunksOf(parts, limits)
        expect(chunks.map(({ text }) => text).join('')).toBe(file.toString())
        let before = 0
        for (const { text, linesBefore } of chunks) {
          expect(linesBefore).toBe(before)
          const count = text.split('\n').length - 1
          expect(count).toBeLessThanOrEqual(linesMax)
          before += count
        }
      },
    ),
    { seed: 20261, numRuns: 300 },
  )
})
