/** Everything that holds a data folder, put together: database, log, engine, views, server. */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { type AuthSettings, createServer, type Readiness, type Server } from '../api/index.ts'
import { inputPartitions, inputTopics } from '../contracts/topics.ts'
import type { EventLog } from '../log/port.ts'
import { analyticsTopology } from '../processors/analytics/analytics.ts'
import { deadLetterTopic } from '../streams/assembly.ts'
import { Engine } from '../streams/engine.ts'
import type { NewState } from '../streams/environment.ts'
import { streamsError } from '../streams/errors.ts'
import { createTopicOnce } from '../streams/topics.ts'
import { type InstanceViews, viewService } from '../streams/view-service.ts'
import { type Backing, openBacking } from './backing.ts'
import { holdsPath } from './dashboard.ts'
import { deadLetterListing } from './dead-letter-listing.ts'
import { effects } from './effects.ts'
import { EventAppender } from './event-appender.ts'
import { eventFlow } from './event-flow.ts'
import type { KafkaSettings } from './kafka-settings.ts'
import type { HttpPeers } from './peers.ts'
import { describeTopology } from './topology-drawing.ts'
import { packageVersion } from './version.ts'

/** Name of the analytics application: its group, and the prefix of its internal topics. */
export const APPLICATION = 'analytics'

export interface ServiceOptions {
  readonly dataDir: string
  /** Absent: the embedded log. */
  readonly kafka?: KafkaSettings
  /** `close` gives this instance's tasks to others at once, instead of keeping them. */
  readonly leaveOnStop?: boolean
  /** The other instances of the group; closed with the service. */
  readonly peers?: HttpPeers
  /** ms; Infinity for ever. */
  readonly viewRetentionMs: number
  /** ms; Infinity for never. */
  readonly idleAfterMs: number
  readonly newState?: NewState
  readonly auth: AuthSettings
  /** False: a missing input topic is an error. */
  readonly createTopics: boolean
  readonly dashboardRoot?: string
  readonly logger: Logger
}

export interface Service {
  readonly backing: Backing
  readonly log: EventLog
  readonly engine: Engine
  readonly views: InstanceViews
  readonly appender: EventAppender
  readonly server: Server
  /** Closes what is open, the engine's last epoch committed. Idempotent. */
  close(): Promise<void>
}

/** Opens a data folder. Nothing is processed and no port is open yet. */
export async function openService(options: ServiceOptions): Promise<Service> {
  const backing = await openBacking(options.dataDir, options.kafka, options.logger)
  const { log } = backing
  const opened: (() => Promise<void>)[] = [() => backing.close()]
  const close = async (): Promise<void> => {
    for (const step of opened.splice(0).reverse()) await step()
  }
  try {
    await prepareInputTopics(log, options.createTopics)
    const engine = await openEngine(options, backing)
    opened.push(() => engine.stop({ leave: options.leaveOnStop ?? false }))
    const views = viewService({
      engine,
      ...effects,
      incarnation: log.incarnation,
      ...(options.peers && { remote: options.peers }),
    })
    opened.push(async () => options.peers?.close())
    const appender = await EventAppender.open(log)
    const server = await openServer(options, { log, engine, views, appender })
    opened.push(() => server.close())
    return { backing, log, engine, views, appender, server, close }
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
}

function openEngine(options: ServiceOptions, backing: Backing): Promise<Engine> {
  const { log, database, join, settings } = backing
  return Engine.open({
    topology: analyticsTopology({ retentionMs: options.viewRetentionMs }),
    log,
    database,
    environment: effects,
    settings: {
      ...settings,
      idleAfterMs: options.idleAfterMs,
      ...(options.newState && { newState: options.newState }),
      createPartitions: options.createTopics ? inputPartitions : undefined,
    },
    ...(join === undefined ? {} : { join }),
    onError: error => options.logger.error({ err: error }, 'an epoch failed'),
  })
}

/** Input topics that no topology reads are there too: events are accepted for all of them. */
async function prepareInputTopics(log: EventLog, create: boolean): Promise<void> {
  for (const topic of inputTopics) {
    if ((await log.describeTopic(topic)) !== undefined) continue
    if (!create) throw streamsError('SOURCE_MISSING', { topic })
    await createTopicOnce(log, topic, inputPartitions)
  }
}

function openServer(
  options: ServiceOptions,
  { log, engine, views, appender }: Pick<Service, 'log' | 'engine' | 'views' | 'appender'>,
): Promise<Server> {
  const { schedule, clock } = effects
  const { dashboardRoot, logger, auth } = options
  return createServer({
    views,
    append: records => appender.append(records),
    clock,
    schedule,
    ids: randomUUID,
    auth,
    version: packageVersion(),
    ...(dashboardRoot === undefined
      ? {}
      : { dashboardRoot, dashboardHolds: holdsPath(dashboardRoot) }),
    logger,
    readiness: () => readinessOf(engine),
    topology: async () => ({
      ...describeTopology(engine.plan),
      instances: views.instances(),
      topics: await describeTopics(log),
    }),
    flow: eventFlow(engine.topology),
    deadLetters: deadLetterListing(log, deadLetterTopic(engine.topology.application)),
  })
}

function readinessOf(engine: Engine): Readiness {
  if (engine.state === 'running') return { ready: true }
  const [task] = engine.tasks()
  return { ready: false, reason: task?.detail ?? engine.state }
}

/** The topics and what each partition holds. */
async function describeTopics(log: EventLog) {
  const topics = await log.listTopics()
  return Promise.all(
    topics.map(async ({ name, partitions, config }) => {
      const targets = Array.from({ length: partitions }, (_, partition) => ({
        topic: name,
        partition,
      }))
      return { name, partitions: await log.offsets(targets), config }
    }),
  )
}
