/** Fetching: all partitions at one moment, waiting for data where there is none. */
import type { Database } from '../database.ts'
import type { FetchRequest, FetchResponse, LogEnvironment } from '../port.ts'
import { offsetAfter } from '../record-batch.ts'
import type { Partition } from './partition.ts'
import { readBytes } from './reader.ts'

const EMPTY = Buffer.alloc(0)

export interface FetchHost {
  readonly database: Database
  readonly environment: LogEnvironment
  find(topic: string, partition: number): Partition | undefined
  /** Throws when the log was closed. */
  checkOpen(): void
}

export interface FetchWait {
  readonly waitMsMax?: number
  readonly signal?: AbortSignal
}

export async function fetchAll(
  host: FetchHost,
  requests: readonly FetchRequest[],
  { waitMsMax = 0, signal }: FetchWait,
): Promise<readonly FetchResponse[]> {
  let expired = waitMsMax <= 0
  let wake = () => {}
  const expire = () => {
    expired = true
    wake()
  }
  const cancel = expired ? undefined : host.environment.schedule(expire, waitMsMax)
  signal?.addEventListener('abort', expire)
  try {
    for (;;) {
      host.checkOpen()
      // The bounds of all partitions are read in one tick: between transactions.
      const responses = await Promise.all(requests.map(request => fetchOne(host, request)))
      const ready = responses.some(response => response.error || response.bytes.length > 0)
      if (ready || expired || signal?.aborted) return responses
      await new Promise<void>(resolve => {
        wake = resolve
        const unchanged = watch(host, requests, responses, resolve)
        if (!unchanged || expired) resolve()
      })
      unwatch(host, requests, wake)
    }
  } finally {
    cancel?.()
    signal?.removeEventListener('abort', expire)
  }
}

/** Waits at each partition; false when one has changed since the responses were made. */
function watch(
  host: FetchHost,
  requests: readonly FetchRequest[],
  responses: readonly FetchResponse[],
  wake: () => void,
): boolean {
  let unchanged = true
  for (let i = 0; i < requests.length; i++) {
    const partition = host.find(requests[i].topic, requests[i].partition)
    if (partition?.endOffset !== responses[i].endOffset) unchanged = false
    partition?.waiters.add(wake)
  }
  return unchanged
}

function unwatch(host: FetchHost, requests: readonly FetchRequest[], wake: () => void): void {
  for (const { topic, partition } of requests) host.find(topic, partition)?.waiters.delete(wake)
}

function fetchOne(host: FetchHost, request: FetchRequest): FetchResponse | Promise<FetchResponse> {
  const { topic, partition: number, offset, bytesMax } = request
  const partition = host.find(topic, number)
  const answer = (bytes: Buffer, error?: FetchResponse['error']): FetchResponse => ({
    topic,
    partition: number,
    bytes,
    nextOffset: offsetAfter(bytes, offset),
    startOffset,
    endOffset,
    error,
  })
  const startOffset = partition?.startOffset ?? 0
  const endOffset = partition?.endOffset ?? 0
  if (partition === undefined) return answer(EMPTY, 'unknown-topic')
  if (offset < startOffset || offset > endOffset) return answer(EMPTY, 'offset-out-of-range')
  if (offset === endOffset) return answer(EMPTY)
  const parts = partition.fromMemory(offset, bytesMax)
  if (parts) return answer(parts.length === 1 ? parts[0] : Buffer.concat(parts))
  const read = readBytes(host.database, partition, { offset, endOffset, bytesMax })
  // No bytes: compaction or damage has left nothing before the end.
  return read.then(bytes => {
    return bytes.length > 0 ? answer(bytes) : { ...answer(bytes), nextOffset: endOffset }
  })
}
