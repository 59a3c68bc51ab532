import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ndjsonLines } from '../../contracts/ndjson.ts'

async function* chunksOf(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Buffer> {
  let start = 0
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    yield bytes.subarray(start, Math.max(start, cut))
    start = Math.max(start, cut)
  }
  yield bytes.subarray(start)
}

async function rendered(
  bytes: Buffer | string,
  cuts: readonly number[] = [],
  bytesMax?: number,
): Promise<string[]> {
  const shown: string[] = []
  for await (const lines of ndjsonLines(chunksOf(Buffer.from(bytes), cuts), bytesMax)) {
    for (const line of lines) {
      shown.push(`${line.number} ${'text' in line ? line.text : `${line.code} ${line.detail}`}`)
    }
  }
  return shown
}

test('lines end with LF or CRLF, blank ones are skipped but counted, the last needs no end', async () => {
  expect(await rendered('a\r\n\n  \r\nb\n\tc')).toEqual(['1 a', '4 b', '5 \tc'])
  expect(await rendered('')).toEqual([])
  expect(await rendered('\n\n')).toEqual([])
})

test('a byte order mark at the start is dropped', async () => {
  expect(await rendered('\ufeff{}\n')).toEqual(['1 {}'])
})

test('a line over the bound is refused with its size, and the next one is read', async () => {
  const text = `abc\n${'x'.repeat(50)}\ndef\n${'y'.repeat(8)}\n${'z'.repeat(9)}`
  const expected = [
    '1 abc',
    '2 LINE_TOO_LONG 50 bytes, at most 8',
    '3 def',
    `4 ${'y'.repeat(8)}`,
    '5 LINE_TOO_LONG 9 bytes, at most 8',
  ]
  expect(await rendered(text, [], 8)).toEqual(expected)
  const everyByte = Array.from({ length: text.length }, (_, at) => at)
  expect(await rendered(text, everyByte, 8)).toEqual(expected)
})

test('a line that is not UTF-8 is refused alone', async () => {
  const bytes = Buffer.concat([Buffer.from('a\n'), Buffer.from([0xc3, 0x28]), Buffer.from('\nb')])
  expect(await rendered(bytes)).toEqual(['1 a', '2 LINE_NOT_UTF8 invalid byte sequence', '3 b'])
})

test('however the bytes are cut into chunks, the lines are the same', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.string({ unit: 'grapheme' }), fc.constant('é😀\r')), { maxLength: 8 }),
      fc.array(fc.nat(80), { maxLength: 10 }),
      async (texts, cuts) => {
        const bytes = Buffer.from(texts.join('\n'))
        const within = cuts.map(cut => cut % (bytes.length + 1))
        expect(await rendered(bytes, within, 24)).toEqual(await rendered(bytes, [], 24))
      },
    ),
    { numRuns: 500, seed: 6 },
  )
})

test('an endless line is not kept in memory', async () => {
  async function* endless(): AsyncGenerator<Buffer> {
    const chunk = Buffer.alloc(1 << 20, 0x61)
    for (let sent = 0; sent < 300; sent += 1) yield chunk
    yield Buffer.from('\nnext\n')
  }
  const before = process.memoryUsage().rss
  const lines = []
  for await (const some of ndjsonLines(endless())) lines.push(...some)
  expect(lines).toEqual([
    { number: 1, code: 'LINE_TOO_LONG', detail: '314572800 bytes, at most 1114112' },
    { number: 2, text: 'next' },
  ])
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024)
})
