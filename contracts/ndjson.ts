/** Cuts a byte stream into lines of text, holding one line at a time and no more than its bound. */
import { isUtf8 } from 'node:buffer'
import { recordBytesMax } from './event-record.ts'
import type { LineCode } from './validation.ts'

/** Largest line, bytes: a record and its envelope. */
export const lineBytesMax = recordBytesMax + 64 * 1024

export type NdjsonLine =
  | { readonly number: number; readonly text: string }
  | { readonly number: number; readonly code: LineCode; readonly detail: string }

const newline = 0x0a
const carriageReturn = 0x0d
const byteOrderMark = Buffer.from('\ufeff')

/**
 * Yields the lines of each chunk together. Blank lines are skipped but counted: `number` is
 * the line's place in the input, from 1. A line over the bound or not UTF-8 is yielded as its
 * refusal, and the next line is read.
 */
export async function* ndjsonLines(
  source: AsyncIterable<Uint8Array>,
  bytesMax = lineBytesMax,
): AsyncGenerator<readonly NdjsonLine[]> {
  const splitter = new LineSplitter(bytesMax)
  for await (const chunk of source) {
    const lines = splitter.push(chunk)
    if (lines.length > 0) yield lines
  }
  const last = splitter.end()
  if (last.length > 0) yield last
}

class LineSplitter {
  private readonly bytesMax: number
  private number = 0
  /** The start of a line whose end has not come. */
  private carry: Buffer = Buffer.alloc(0)
  private carried = 0
  /** Bytes of the line so far, also those dropped once it was too long. */
  private lineBytes = 0
  private lines: NdjsonLine[] = []

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  push(chunk: Uint8Array): readonly NdjsonLine[] {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    this.lines = []
    let start = 0
    for (;;) {
      const end = bytes.indexOf(newline, start)
      if (end < 0) break
      this.finish(bytes.subarray(start, end))
      start = end + 1
    }
    this.keep(bytes.subarray(start))
    return this.lines
  }

  end(): readonly NdjsonLine[] {
    this.lines = []
    if (this.lineBytes > 0) this.finish(Buffer.alloc(0))
    return this.lines
  }

  private keep(part: Buffer): void {
    this.lineBytes += part.length
    if (this.lineBytes > this.bytesMax) {
      this.carry = Buffer.alloc(0)
      this.carried = 0
      return
    }
    if (part.length === 0) return
    if (this.lineBytes > this.carry.length) {
      // Doubling, so that a line that comes a byte at a time is not copied a byte at a time.
      const size = Math.min(this.bytesMax, Math.max(2 * this.lineBytes, 4096))
      const larger = Buffer.allocUnsafeSlow(size)
      this.carry.copy(larger, 0, 0, this.carried)
      this.carry = larger
    }
    this.carried += part.copy(this.carry, this.carried)
  }

  private finish(rest: Buffer): void {
    this.number += 1
    let line = rest
    if (this.lineBytes > 0) {
      this.keep(rest)
      line = this.carry.subarray(0, this.carried)
    } else {
      this.lineBytes = rest.length
    }
    const size = this.lineBytes
    this.lineBytes = 0
    this.carried = 0
    if (size > this.bytesMax) {
      this.refuse('LINE_TOO_LONG', `${size} bytes, at most ${this.bytesMax}`)
    } else {
      this.take(line)
    }
  }

  private take(line: Buffer): void {
    const end = line.at(-1) === carriageReturn ? line.length - 1 : line.length
    const marked = this.number === 1 && line.subarray(0, 3).equals(byteOrderMark)
    const bytes = line.subarray(marked ? 3 : 0, end)
    if (!isUtf8(bytes)) {
      this.refuse('LINE_NOT_UTF8', 'invalid byte sequence')
      return
    }
    const text = bytes.toString()
    if (text.trim() !== '') this.lines.push({ number: this.number, text })
  }

  private refuse(code: LineCode, detail: string): void {
    this.lines.push({ number: this.number, code, detail })
  }
}
