/** Cuts a file of lines into chunks of whole lines, each small enough for one request. */

export interface LineChunk {
  readonly bytes: Buffer<ArrayBuffer>
  /** Lines of the file before this chunk. */
  readonly linesBefore: number
  /** Bytes of the file read so far. */
  readonly bytesRead: number
}

export interface LineChunkLimits {
  readonly lines: number
  readonly bytes: number
  /** Of a longer line only so much is kept: enough to be refused as too long. */
  readonly lineBytes: number
}

const newline = 0x0a

export async function* lineChunks(
  source: AsyncIterable<Buffer>,
  limits: LineChunkLimits,
): AsyncGenerator<LineChunk> {
  const chunk = new OpenChunk(limits)
  for await (const bytes of source) {
    let start = 0
    while (start < bytes.length) {
      const at = bytes.indexOf(newline, start)
      const end = at < 0 ? bytes.length : at + 1
      chunk.add(bytes.subarray(start, end), at >= 0)
      start = end
      if (chunk.isFull) yield chunk.take()
    }
  }
  chunk.endLine()
  if (chunk.lines > 0) yield chunk.take()
}

class OpenChunk {
  lines = 0
  readonly #limits: LineChunkLimits
  #parts: Buffer[] = []
  #size = 0
  #lineBytes = 0
  #linesBefore = 0
  #bytesRead = 0

  constructor(limits: LineChunkLimits) {
    this.#limits = limits
  }

  get isFull(): boolean {
    const { lines, bytes } = this.#limits
    return this.#lineBytes === 0 && (this.lines >= lines || this.#size >= bytes)
  }

  add(part: Buffer, endsLine: boolean): void {
    this.#bytesRead += part.length
    const text = endsLine ? part.subarray(0, -1) : part
    const room = Math.max(0, this.#limits.lineBytes - this.#lineBytes)
    // A copy: the source may use its buffer again.
    if (room > 0 && text.length > 0) this.#keep(Buffer.from(text.subarray(0, room)))
    this.#lineBytes += part.length
    if (endsLine) this.endLine()
  }

  endLine(): void {
    if (this.#lineBytes === 0) return
    this.#keep(Buffer.of(newline))
    this.#lineBytes = 0
    this.lines++
  }

  #keep(part: Buffer): void {
    this.#parts.push(part)
    this.#size += part.length
  }

  take(): LineChunk {
    const bytes = Buffer.concat(this.#parts)
    const chunk = { bytes, linesBefore: this.#linesBefore, bytesRead: this.#bytesRead }
    this.#linesBefore += this.lines
    this.lines = 0
    this.#parts = []
    this.#size = 0
    return chunk
  }
}
