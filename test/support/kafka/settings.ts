/** What a broker under test is told: its `server.properties`. */

export type BrokerSettings = Readonly<Record<string, string | number | boolean>>

/** Where one node of the cluster listens. */
export interface NodeAddress {
  readonly node: number
  readonly controllerPort: number
  /** Listener name → port; `PLAINTEXT` is always among them. */
  readonly ports: Readonly<Record<string, number>>
}

/** Compaction and deletion within a second or two instead of minutes. */
export const quickCompaction: BrokerSettings = {
  'log.cleaner.backoff.ms': 200,
  'log.cleaner.min.cleanable.ratio': 0.01,
  'log.initial.task.delay.ms': 500,
  'log.retention.check.interval.ms': 500,
  'log.roll.ms': 1000,
  'log.segment.delete.delay.ms': 500,
}

/** Of brokers that no test kills: one that stands still must not be shut out by itself. */
export const steady: BrokerSettings = { 'broker.session.timeout.ms': 60_000 }

/** Rebalances without their waits, few internal partitions, no topic by mistake. */
function defaults(nodes: number): BrokerSettings {
  const inSync = Math.min(nodes, 2)
  return {
    'auto.create.topics.enable': false,
    'broker.heartbeat.interval.ms': 500,
    // A killed broker is let in again only when its session has ended.
    'broker.session.timeout.ms': 4000,
    'default.replication.factor': nodes,
    'group.initial.rebalance.delay.ms': 0,
    'group.streams.assignment.interval.ms': 0,
    'group.streams.initial.rebalance.delay.ms': 0,
    // Groups may be set to notice a dead member within seconds.
    'group.streams.min.heartbeat.interval.ms': 100,
    'group.streams.min.session.timeout.ms': 1000,
    'min.insync.replicas': inSync,
    'offsets.topic.num.partitions': 6,
    'offsets.topic.replication.factor': nodes,
    'share.coordinator.state.topic.min.isr': inSync,
    'share.coordinator.state.topic.num.partitions': 3,
    'share.coordinator.state.topic.replication.factor': nodes,
    'transaction.state.log.min.isr': inSync,
    'transaction.state.log.num.partitions': 6,
    'transaction.state.log.replication.factor': nodes,
  }
}

export interface NodeSettings {
  readonly address: NodeAddress
  readonly cluster: readonly NodeAddress[]
  readonly dataDir: string
  /** Listener name → security protocol. */
  readonly listeners: Readonly<Record<string, string>>
  readonly overrides: BrokerSettings
}

/** The text of `server.properties` for one node, broker and controller in one process. */
export function serverProperties(settings: NodeSettings): string {
  const { address, cluster, dataDir, listeners, overrides } = settings
  const own = Object.entries(address.ports).map(([name, port]) => `${name}://127.0.0.1:${port}`)
  const protocols = Object.entries({ ...listeners, CONTROLLER: 'PLAINTEXT' })
  const properties: BrokerSettings = {
    'process.roles': 'broker,controller',
    'node.id': address.node,
    'controller.quorum.voters': cluster
      .map(({ node, controllerPort }) => `${node}@127.0.0.1:${controllerPort}`)
      .join(),
    listeners: [...own, `CONTROLLER://127.0.0.1:${address.controllerPort}`].join(),
    'advertised.listeners': own.join(),
    'listener.security.protocol.map': protocols.map(pair => pair.join(':')).join(),
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': dataDir,
    ...defaults(cluster.length),
    ...overrides,
  }
  const lines = Object.entries(properties).map(([key, value]) => `${key}=${value}`)
  return `${lines.join('\n')}\n`
}
