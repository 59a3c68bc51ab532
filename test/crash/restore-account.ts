/**
 * What an instance reads from its changelogs, seen from outside the stores: a log that passes
 * everything on and keeps account. A restore that begins before what the disk already had is a
 * wipe; the transactions it replays are counted by their producer epochs, which each has its own.
 */
import type { EventLog, TopicPartition, Transaction } from '../../log/port.ts'
import { readBatchHeaders } from '../../log/record-batch.ts'

const keyOf = ({ topic, partition }: TopicPartition) => `${topic}/${partition}`

export class RestoreAccount {
  readonly log: EventLog
  records = 0
  /** Changelog partitions that were read from before what was on disk. */
  readonly wipes: string[] = []
  /** Producer epochs of which records were replayed, by changelog partition. */
  readonly #epochs = new Map<string, Set<string>>()
  readonly #applied = new Map<string, number>()

  constructor(log: EventLog) {
    const account = this
    this.log = new Proxy(log, {
      get(target, name) {
        if (name === 'fetch') return account.#fetch(target)
        if (name === 'begin') return () => account.#begin(target)
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }

  /** Transactions of which records were replayed, by changelog partition. */
  get epochs(): Readonly<Record<string, readonly string[]>> {
    return Object.fromEntries([...this.#epochs].map(([key, epochs]) => [key, [...epochs]]))
  }

  /** What the disk has of a changelog. */
  has(changelog: TopicPartition, offset: number): void {
    const key = keyOf(changelog)
    this.#applied.set(key, Math.max(offset, this.#applied.get(key) ?? 0))
  }

  #fetch(log: EventLog): EventLog['fetch'] {
    return async (requests, options) => {
      for (const request of requests) {
        const known = this.#applied.get(keyOf(request))
        if (known !== undefined && request.offset < known) {
          this.wipes.push(`${keyOf(request)} from ${request.offset}, had ${known}`)
        }
      }
      const responses = await log.fetch(requests, options)
      for (const [i, response] of responses.entries()) {
        if (!response.topic.endsWith('-changelog')) continue
        this.has(response, response.nextOffset)
        for (const header of readBatchHeaders(response.bytes)) {
          if (header.isControl || header.nextOffset <= requests[i]!.offset) continue
          this.records += header.recordCount
          const key = keyOf(response)
          const epochs = this.#epochs.get(key) ?? new Set()
          this.#epochs.set(key, epochs.add(`${header.producerId}/${header.producerEpoch}`))
        }
      }
      return responses
    }
  }

  #begin(log: EventLog): Transaction {
    const transaction = log.begin()
    return {
      append: (target, batch) => transaction.append(target, batch),
      abort: () => transaction.abort(),
      commit: async request => {
        const receipts = await transaction.commit(request)
        for (const receipt of receipts) {
          if (receipt.topic.endsWith('-changelog')) this.has(receipt, receipt.nextOffset)
        }
        return receipts
      },
    }
  }
}
