/** An application on real Kafka in the test's own process: log, group member and engine. */
import { randomBytes } from 'node:crypto'
import { effects } from '../../../cli/effects.ts'
import type { Database } from '../../../log/database.ts'
import {
  joinStreamsGroup,
  type KafkaLog,
  type KafkaLogOptions,
  openKafkaLog,
  prepareGroup,
  type StreamsGroupOptions,
} from '../../../log/kafka/index.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { Engine } from '../../../streams/engine.ts'
import type { EngineEnvironment, EngineSettings } from '../../../streams/environment.ts'
import { groupTopology } from '../../../streams/group-topology.ts'
import type { Topology } from '../../../streams/index.ts'

export interface ApplicationOptions {
  readonly bootstrap: string
  readonly topology: Topology
  readonly settings?: Partial<EngineSettings>
  readonly connection?: Pick<KafkaLogOptions, 'tls' | 'sasl'>
  readonly member?: Partial<StreamsGroupOptions>
  /** Default: that of a process. */
  readonly environment?: EngineEnvironment
  /** Default: an empty one. */
  readonly database?: Database
}

export interface Application {
  readonly engine: Engine
  readonly log: KafkaLog
  /** What the engine complained about, and at last what it gave up with. */
  readonly errors: Error[]
  /** Resolves when the engine has given up or was stopped. */
  readonly ended: Promise<void>
  /** Its tasks go to others at once, unless it `remains` a member until its session ends. */
  stop(end?: 'leaves' | 'remains'): Promise<void>
}

/** Opens it and begins to process. Rejects as `Engine.open` does. */
export async function startApplication(options: ApplicationOptions): Promise<Application> {
  const { bootstrap, topology, settings, connection, member, environment = effects } = options
  const database = options.database ?? new MemoryDatabase()
  const memberId = member?.memberId ?? `member-${randomBytes(4).toString('hex')}`
  const log = await openKafkaLog({
    bootstrap: bootstrap.split(','),
    environment,
    transactionalId: `${topology.application}-${memberId}`,
    database,
    ...connection,
  })
  const errors: Error[] = []
  try {
    const engine = await Engine.open({
      topology,
      log,
      database,
      environment,
      settings: { epochMsMin: 20, ...settings },
      onError: error => errors.push(error as Error),
      async join(plan) {
        const group: StreamsGroupOptions = {
          cluster: log.cluster,
          group: topology.application,
          memberId,
          processId: memberId,
          topology: groupTopology(plan),
          ...member,
        }
        await prepareGroup(group)
        return joinStreamsGroup(group)
      },
    })
    const ended = engine.run().catch(() => {})
    return {
      engine,
      log,
      errors,
      ended,
      async stop(end = 'leaves') {
        await engine.stop({ leave: end === 'leaves' }).catch(() => {})
        await log.close()
      },
    }
  } catch (error) {
    await log.close()
    throw error
  }
}
