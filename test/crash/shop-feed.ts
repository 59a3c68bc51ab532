/** Appends the shop's records to Kafka bit by bit, as another client: kafkajs, idempotent. */
import { Kafka, logLevel, type Producer } from 'kafkajs'
import type { ShopRecord } from '../support/shop.ts'

const CHUNK = 20

export class ShopFeed {
  readonly #producer: Producer
  readonly #records: readonly ShopRecord[]
  readonly #prefix: string
  readonly #pauseMs: number
  #isHurried = false
  #isStopped = false
  #wake = () => {}
  #done: Promise<void> | undefined

  /** Spreads the records over about so much time, unless `finish` is called. */
  constructor(options: {
    readonly bootstrap: string
    readonly prefix: string
    readonly records: readonly ShopRecord[]
    readonly durationMs: number
  }) {
    const { bootstrap, prefix, records, durationMs } = options
    const retry = { retries: 10_000, initialRetryTime: 50, maxRetryTime: 1000 }
    const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING, retry })
    this.#producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry })
    this.#records = records
    this.#prefix = prefix
    this.#pauseMs = durationMs / (records.length / CHUNK)
  }

  start(): void {
    this.#done ??= this.#run()
    this.#done.catch(() => {})
  }

  /** Appends no more. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.finish()
  }

  /** Appends the rest without pauses; resolves when all is acknowledged. */
  async finish(): Promise<void> {
    this.#isHurried = true
    this.#wake()
    try {
      await this.#done
    } finally {
      await this.#producer.disconnect()
    }
  }

  async #run(): Promise<void> {
    await this.#producer.connect()
    for (let i = 0; i < this.#records.length && !this.#isStopped; i += CHUNK) {
      await this.#send(this.#records.slice(i, i + CHUNK))
      if (!this.#isHurried) await this.#pause()
    }
  }

  async #send(records: readonly ShopRecord[]): Promise<void> {
    const byTopic = Map.groupBy(records, ({ topic }) => topic)
    await this.#producer.sendBatch({
      topicMessages: [...byTopic].map(([topic, some]) => ({
        topic: this.#prefix + topic,
        messages: some.map(({ partition, key, value, timeMs }) => {
          return { partition, key, value: JSON.stringify(value), timestamp: String(timeMs) }
        }),
      })),
    })
  }

  #pause(): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, this.#pauseMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
