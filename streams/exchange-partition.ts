/** The far end of an exchange: a partition of its repartition topic, as this instance reads it. */
import type { ErrorDetails } from '../log/errors.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import { Batch } from './batch.ts'
import { type MillraceError, streamsError } from './errors.ts'
import { type ExchangeReader, exchangedOrigin, readExchanged } from './exchange-records.ts'
import { type BrokenBatch, InputPartition, type InputPartitionOptions } from './input-partition.ts'
import { replayTargetOf } from './replay-header.ts'
import type { RecordOrigin } from './retries.ts'
import type { ExchangeNode } from './topology.ts'
import type { InputProgress } from './watermark.ts'

export class ExchangePartition extends InputPartition implements ExchangeReader {
  readonly node: ExchangeNode

  constructor(options: InputPartitionOptions) {
    super(options)
    this.node = options.runtime.node as ExchangeNode
  }

  /** Records before it are in the batch being filled, which the node gets before it closes. */
  progress(upstream: number, progress: InputProgress): void {
    const { watermark } = this.runtime
    if (upstream >= watermark.inputs) throw new RangeError(`no upstream task ${upstream}`)
    watermark.set(upstream, progress)
  }

  /** Only what is committed as read is trimmed. */
  override lost(details: ErrorDetails): MillraceError {
    const { offset, startOffset } = details as { offset: number; startOffset: number }
    return offset < startOffset ? streamsError('EXCHANGE_PASSED', details) : super.lost(details)
  }

  protected override batchOf(columns: RecordColumns): Batch {
    return new Batch(columns, { rawKeys: undefined, rawValues: false, exchanged: true })
  }

  protected override decode(batch: Batch, row: number): boolean {
    const columns = batch.columns!
    const replay = replayTargetOf(columns, row)
    const isOnItsWay = replay !== undefined && this.towards(replay.step).nodes.has(this.node.id)
    if (!this.aim(batch, isOnItsWay ? replay.step : undefined)) return false
    readExchanged(this, columns, row, batch)
    return true
  }

  protected override originOf(columns: RecordColumns, row: number): RecordOrigin | undefined {
    return exchangedOrigin(columns, row)
  }

  /** Nothing of an exchange may be left out: its records are in no other topic. */
  protected override refuse({ offset, detail }: BrokenBatch): void {
    const { topic, partition } = this
    throw streamsError('EXCHANGE_BROKEN', { topic, partition, offset, reason: detail })
  }
}
