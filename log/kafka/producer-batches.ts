/**
 * Record batches on their way into a Kafka transaction (grammar in `record-batch.ts`).
 *
 * What the producer writes into a batch lies in its header: a header of its own is sent before the
 * body, which goes out from where it is. The caller's bytes stay as they are, but for the base
 * offset once it is known. The CRC-32C is linear, so the new one follows from the old one, the
 * header's changed bytes and the length of what follows them; the body is not read again, and
 * bytes damaged since the batch was built are still found by the broker.
 */
import { crc32cAdvance, crc32cRaw } from '../crc32c-patch.ts'
import type { TopicPartition } from '../port.ts'
import {
  AT,
  ATTRIBUTE,
  batchEnd,
  corrupt,
  HEADER_BYTES,
  rebase,
  writeInt64,
} from '../record-batch.ts'

/** Who the broker knows the producer by. Both change with every transaction that ends. */
export interface ProducerIdentity {
  readonly producerId: number
  readonly epoch: number
}

/** One batch of an append: what one partition gets in one request. */
export class OutgoingBatch {
  readonly target: TopicPartition
  /** Index of the append that it belongs to. */
  readonly append: number
  readonly body: Buffer
  readonly sizeBytes: number
  /** Sequence numbers, and offsets, that it takes. */
  readonly span: number
  header: Buffer
  /** -1 until the broker has told. */
  baseOffset = -1
  sequence = -1
  readonly #source: Buffer

  constructor(target: TopicPartition, append: number, source: Buffer) {
    this.target = target
    this.append = append
    this.header = source.subarray(0, HEADER_BYTES)
    this.body = source.subarray(HEADER_BYTES)
    this.sizeBytes = source.length
    this.span = source.readInt32BE(AT.lastOffsetDelta) + 1
    this.#source = source
  }

  /** Makes the header that is sent: transactional, of this producer, from this sequence on. */
  stamp({ producerId, epoch }: ProducerIdentity, sequence: number): void {
    const header = Buffer.allocUnsafe(HEADER_BYTES)
    this.#source.copy(header, 0, 0, HEADER_BYTES)
    rebase(header, 0, -1)
    const attributes = header.readInt16BE(AT.attributes)
    header.writeInt16BE(attributes | ATTRIBUTE.transactional, AT.attributes)
    writeInt64(header, AT.producerId, producerId)
    header.writeInt16BE(epoch, AT.producerEpoch)
    header.writeInt32BE(sequence, AT.baseSequence)
    const bodyBytes = this.body.length
    const change = crc32cRaw(difference(this.#source, header))
    const crc = header.readUInt32BE(AT.crc) ^ crc32cAdvance(change, bodyBytes)
    header.writeUInt32BE(crc >>> 0, AT.crc)
    this.header = header
    this.sequence = sequence
  }

  /** The broker has appended it; the caller's bytes learn their place. */
  acknowledge(baseOffset: number): void {
    this.baseOffset = baseOffset
    rebase(this.#source, baseOffset, -1)
  }

  get isAcknowledged(): boolean {
    return this.baseOffset >= 0
  }
}

/** Exclusive or of what the CRC covers of two headers. */
function difference(one: Buffer, other: Buffer): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES - AT.attributes)
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = one[AT.attributes + i]! ^ other[AT.attributes + i]!
  }
  return bytes
}

/** The whole batches that an append consists of; anything else is BATCH_CORRUPT. */
export function splitBatches(
  target: TopicPartition,
  append: number,
  bytes: Buffer,
): readonly OutgoingBatch[] {
  const batches: OutgoingBatch[] = []
  for (let position = 0; position < bytes.length; ) {
    const end = batchEnd(bytes, position)
    if (end < 0) throw corrupt(position, 0, 'its end is missing')
    const batch = new OutgoingBatch(target, append, bytes.subarray(position, end))
    if (batch.span < 1) throw corrupt(position, 0, 'it ends before it begins')
    batches.push(batch)
    position = end
  }
  return batches
}

const SEQUENCE_MAX = 0x7fff_ffff

/** The sequence after `span` records from `sequence` on: it wraps to 0 as Kafka's does. */
export function nextSequence(sequence: number, span: number): number {
  const next = sequence + span
  return next > SEQUENCE_MAX ? next - SEQUENCE_MAX - 1 : next
}
