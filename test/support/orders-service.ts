/** Analytics and commands to orders in this process, over real HTTP and the embedded log. */
import { pino } from 'pino'
import { noAuth, parseApiKeys } from '../../api/index.ts'
import { openService, type Service } from '../../cli/service.ts'
import { analyticsTopology } from '../../processors/analytics/analytics.ts'
import { orderingTopology } from '../../processors/orders/ordering.ts'
import { OrdersClient } from './orders-client.ts'
import { scratchFolder } from './service-process.ts'

export class OrdersService {
  readonly address: string
  /** May write. */
  readonly client: OrdersClient
  /** Another one who may. */
  readonly other: OrdersClient
  /** May only read. */
  readonly reader: OrdersClient
  readonly #service: Service
  readonly #remove: () => Promise<void>

  private constructor(service: Service, address: string, remove: () => Promise<void>) {
    this.#service = service
    this.address = address
    this.client = new OrdersClient(address, { authorization: 'Bearer write' })
    this.other = new OrdersClient(address, { authorization: 'Bearer other' })
    this.reader = new OrdersClient(address, { authorization: 'Bearer read' })
    this.#remove = remove
  }

  static async open(): Promise<OrdersService> {
    const folder = await scratchFolder()
    const retentionMs = Number.POSITIVE_INFINITY
    const service = await openService({
      dataDir: folder.path,
      topologies: [analyticsTopology({ retentionMs }), orderingTopology()],
      idleAfterMs: 50,
      auth: {
        ...noAuth,
        keys: parseApiKeys('shop:writer:write,app:writer:other,desk:reader:read'),
      },
      createTopics: true,
      logger: pino({ level: 'silent' }),
    })
    for (const { engine } of service.applications) engine.run().catch(() => {})
    const address = await service.server.listen({ host: '127.0.0.1', port: 0 })
    return new OrdersService(service, address, folder.remove)
  }

  get log(): Service['log'] {
    return this.#service.log
  }

  /** How many records each topic has, but those that the engines keep for themselves. */
  async ends(): Promise<Record<string, number>> {
    const { log } = this.#service
    const ends: Record<string, number> = {}
    for (const { name: topic, partitions } of await log.listTopics()) {
      if (/^(analytics|ordering)-(?!dead-letters)/.test(topic)) continue
      const targets = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
      const ranges = await log.offsets(targets)
      const end = ranges.reduce((sum, { endOffset }) => sum + endOffset, 0)
      ends[topic] = end
    }
    return ends
  }

  async close(): Promise<void> {
    await this.#service.close()
    await this.#remove()
  }
}
