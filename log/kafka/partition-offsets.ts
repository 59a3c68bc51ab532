/** Where partitions begin and end, by asking their leaders. */
import { logError } from '../errors.ts'
import type { OffsetRange, TopicPartition } from '../port.ts'
import type { Cluster } from './cluster.ts'
import { ErrorCode } from './error-codes.ts'
import { askLeaders, inOrder, refusal } from './leader-requests.ts'
import { deleteRecords, type IsolationLevel, listOffsets, PLACE } from './offset-apis.ts'

interface Ask extends TopicPartition {
  readonly timestampMs: number
}

/** The same partition may be asked for twice; a request names it once. */
async function ask(
  cluster: Cluster,
  isolation: IsolationLevel,
  asks: readonly Ask[],
): Promise<readonly number[]> {
  const request = { name: 'the offsets', operation: 'Describe' }
  const answers = await askLeaders(cluster, {
    ...request,
    asks: [...new Map(asks.map(one => [`${one.topic}/${one.partition}`, one])).values()],
    send: async (node, some) =>
      inOrder(some, await cluster.call(node, 'metadata', listOffsets, isolation, some)),
  })
  for (const answer of answers) if (answer.error !== 0) throw refusal(request, answer, answer.error)
  return inOrder(asks, answers).map(({ offset }) => offset)
}

/**
 * The three bounds of each partition, asked for in this order, so that they never cross: what is
 * between the stable end and the high watermark is of transactions still open.
 */
export async function partitionRanges(
  cluster: Cluster,
  targets: readonly TopicPartition[],
): Promise<readonly OffsetRange[]> {
  const at = (timestampMs: number) =>
    targets.map(({ topic, partition }) => ({ topic, partition, timestampMs }))
  // The requests of a connection are answered in order.
  const [starts, ends, watermarks] = await Promise.all([
    ask(cluster, 'read_committed', at(PLACE.earliest)),
    ask(cluster, 'read_committed', at(PLACE.latest)),
    ask(cluster, 'read_uncommitted', at(PLACE.latest)),
  ])
  return targets.map((_, i) => ({
    startOffset: starts[i]!,
    endOffset: Math.max(starts[i]!, ends[i]!),
    highWatermark: Math.max(ends[i]!, watermarks[i]!),
  }))
}

/**
 * The first offset that the broker's time index finds at or after a time; undefined when there is
 * none. It counts aborted records and commit markers too, which bear the broker's time.
 */
export async function indexedOffset(
  cluster: Cluster,
  target: TopicPartition,
  timestampMs: number,
): Promise<number | undefined> {
  const { topic, partition } = target
  // Below zero a time would be taken for a place.
  const time = Math.max(0, Math.ceil(timestampMs))
  const [offset] = await ask(cluster, 'read_committed', [{ topic, partition, timestampMs: time }])
  return offset! < 0 ? undefined : offset
}

/** Moves the start of a partition. Rejects with OFFSET_OUT_OF_RANGE beyond its end. */
export async function trimPartition(
  cluster: Cluster,
  target: TopicPartition,
  beforeOffset: number,
): Promise<void> {
  const { topic, partition } = target
  const timeoutMs = cluster.requestTimeoutMs
  const outOfRange = async () => {
    const [range] = await partitionRanges(cluster, [target])
    return logError('OFFSET_OUT_OF_RANGE', { topic, partition, offset: beforeOffset, ...range })
  }
  // A negative offset means the end to a broker.
  if (!(beforeOffset >= 0)) throw await outOfRange()
  const request = { name: 'the deletion of records', operation: 'Delete' }
  const [answer] = await askLeaders(cluster, {
    ...request,
    asks: [{ topic, partition, beforeOffset }],
    send: async (node, asks) =>
      inOrder(asks, await cluster.call(node, 'metadata', deleteRecords, asks, timeoutMs)),
  })
  if (answer!.error === ErrorCode.OFFSET_OUT_OF_RANGE) throw await outOfRange()
  if (answer!.error !== 0) throw refusal(request, target, answer!.error)
}
