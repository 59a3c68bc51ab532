/**
 * Requests of a transactional producer, as of transaction.version 2 (KIP-890). Error codes are in
 * the answers. Grammar: `{}` is a struct with tagged fields behind it, `[]` an array of them.
 *
 *     InitProducerId 22 v5   transactionalId:string? timeoutMs:int32 producerId:int64 epoch:int16
 *                            -> throttleMs:int32 error:int16 producerId:int64 epoch:int16
 *     Produce 0 v12          transactionalId:string? acks:int16 timeoutMs:int32
 *                            [topic:string [partition:int32 records:bytes]]
 *                            -> [topic:string [partition:int32 error:int16 baseOffset:int64
 *                                logAppendTimeMs:int64 logStartOffset:int64
 *                                [batchIndex:int32 message:string?] message:string?]]
 *                               throttleMs:int32
 *     TxnOffsetCommit 28 v5  transactionalId:string group:string producerId:int64 epoch:int16
 *                            memberEpoch:int32 memberId:string instanceId:string?
 *                            [topic:string [partition:int32 offset:int64 leaderEpoch:int32
 *                             metadata:string?]]
 *                            -> throttleMs:int32 [topic:string [partition:int32 error:int16]]
 *     EndTxn 26 v5           transactionalId:string producerId:int64 epoch:int16 commit:boolean
 *                            -> throttleMs:int32 error:int16 producerId:int64 epoch:int16
 *
 * In v12 a produce request enrols its partitions in the transaction, in v5 an offset commit its
 * group's; EndTxn v5 answers with the identity of the next transaction.
 */
import type { CommittedOffset } from '../port.ts'
import type { OutgoingBatch, ProducerIdentity } from './producer-batches.ts'
import { defineApi, type RequestWriter, type ResponseReader } from './wire.ts'

/** An answer that is one code, with the producer's identity from here on. */
export interface IdentityAnswer extends ProducerIdentity {
  readonly errorCode: number
}

export interface ProduceRequest {
  readonly transactionalId: string
  /** How long the leader may wait for its followers. */
  readonly timeoutMs: number
  /** At most one of each partition. */
  readonly batches: readonly OutgoingBatch[]
}

export interface ProduceAnswer {
  readonly topic: string
  readonly partition: number
  readonly errorCode: number
  readonly baseOffset: number
  /** The broker's own words, and of single records where it has any. */
  readonly message: string | null
}

/** The offsets of a group, and the member that commits them (law 2). */
export interface GroupOffsets {
  readonly id: string
  /**
   * Never empty: with epoch -1 that would be taken unchecked. Any other name with -1 is taken as
   * long as the group has no members.
   */
  readonly memberId: string
  readonly memberEpoch: number
  readonly offsets: readonly CommittedOffset[]
}

function readIdentity(reader: ResponseReader): IdentityAnswer {
  reader.int32()
  const answer = {
    errorCode: reader.int16(),
    producerId: reader.int64(),
    epoch: reader.int16(),
  }
  reader.tags()
  return answer
}

export const initProducerIdV5 = defineApi({
  key: 22,
  version: 5,
  encode(writer, id: string, timeoutMs: number, { producerId, epoch }: ProducerIdentity) {
    writer.nullableString(id).int32(timeoutMs).int64(producerId).int16(epoch).tags()
  },
  decode: readIdentity,
})

export const endTxnV5 = defineApi({
  key: 26,
  version: 5,
  encode(writer, id: string, { producerId, epoch }: ProducerIdentity, commit: boolean) {
    writer.string(id).int64(producerId).int16(epoch).boolean(commit).tags()
  },
  decode: readIdentity,
})

const ACKS_ALL = -1

export const produceV12 = defineApi({
  key: 0,
  version: 12,
  encode(writer, { transactionalId, timeoutMs, batches }: ProduceRequest) {
    writer.nullableString(transactionalId).int16(ACKS_ALL).int32(timeoutMs)
    writeTopics(writer, batches, ({ target, header, body }) =>
      writer.int32(target.partition).byteParts([header, body]),
    )
    writer.tags()
  },
  decode(reader): readonly ProduceAnswer[] {
    const answers: ProduceAnswer[] = []
    reader.structs(() => {
      const topic = reader.string()
      reader.structs(() => answers.push(readProduceAnswer(reader, topic)))
    })
    reader.int32()
    reader.tags()
    return answers
  },
})

function readProduceAnswer(reader: ResponseReader, topic: string): ProduceAnswer {
  const partition = reader.int32()
  const errorCode = reader.int16()
  const baseOffset = reader.int64()
  reader.int64()
  reader.int64()
  const ofRecords = reader.structs(() => {
    reader.int32()
    return reader.nullableString()
  })
  const messages = [reader.nullableString(), ...ofRecords].filter(message => message !== null)
  const message = messages.length === 0 ? null : messages.join('; ')
  return { topic, partition, errorCode, baseOffset, message }
}

/** What the group said of an offset. */
export interface OffsetVerdict {
  readonly code: number
  readonly topic: string
}

export const txnOffsetCommitV5 = defineApi({
  key: 28,
  version: 5,
  encode(writer, id: string, { producerId, epoch }: ProducerIdentity, group: GroupOffsets) {
    writer.string(id).string(group.id).int64(producerId).int16(epoch)
    writer.int32(group.memberEpoch).string(group.memberId).nullableString(null)
    const rows = group.offsets.map(offset => ({ target: offset, ...offset }))
    writeTopics(writer, rows, ({ partition, offset, metadata }) =>
      writer.int32(partition).int64(offset).int32(-1).nullableString(metadata),
    )
    writer.tags()
  },
  /** Of all partitions. */
  decode(reader): readonly OffsetVerdict[] {
    const verdicts: OffsetVerdict[] = []
    reader.int32()
    reader.structs(() => {
      const topic = reader.string()
      reader.structs(() => {
        reader.int32()
        verdicts.push({ topic, code: reader.int16() })
      })
    })
    reader.tags()
    return verdicts
  },
})

const TOPIC_RESOURCE = 2

/** DescribeConfigs, 32 v4, of one setting of one topic: its value, null when there is none. */
export const topicConfigV4 = defineApi({
  key: 32,
  version: 4,
  encode(writer, topic: string, name: string) {
    writer.structs([topic], resource => {
      writer.int8(TOPIC_RESOURCE).string(resource)
      writer.array([name], one => writer.string(one))
    })
    writer.boolean(false).boolean(false).tags()
  },
  decode(reader): string | null {
    reader.int32()
    const values = reader.structs(() => {
      reader.int16()
      reader.nullableString()
      reader.int8()
      reader.string()
      return reader.structs(() => readConfigValue(reader))
    })
    reader.tags()
    return values[0]?.[0] ?? null
  },
})

function readConfigValue(reader: ResponseReader): string | null {
  reader.string()
  const value = reader.nullableString()
  reader.skip(3) // read-only, source, sensitive
  reader.structs(() => {
    reader.string()
    reader.nullableString()
    reader.int8()
  })
  reader.int8()
  reader.nullableString()
  return value
}

/** An array of topics, each with an array of its partitions. */
function writeTopics<T extends { readonly target: { readonly topic: string } }>(
  writer: RequestWriter,
  rows: readonly T[],
  write: (row: T) => unknown,
): void {
  const topics = Map.groupBy(rows, row => row.target.topic)
  writer.structs([...topics], ([topic, ofTopic]) => {
    writer.string(topic).structs(ofTopic, write)
  })
}
