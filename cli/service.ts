/** Everything that holds a data folder, put together: database, log, applications, server. */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { type AuthSettings, createServer, type Server } from '../api/index.ts'
import { orderCommandTopic } from '../contracts/order-commands.ts'
import { inputPartitions, inputTopics } from '../contracts/topics.ts'
import type { EventLog } from '../log/port.ts'
import { checkApplications } from '../streams/applications.ts'
import { composeViews } from '../streams/composed-views.ts'
import type { NewState } from '../streams/environment.ts'
import { streamsError } from '../streams/errors.ts'
import type { SideReason } from '../streams/operator.ts'
import { createTopicOnce } from '../streams/topics.ts'
import type { Topology } from '../streams/topology.ts'
import type { ViewService } from '../streams/views.ts'
import { type Application, deadLettersOf, openApplication, readinessOf } from './application.ts'
import { begunApplications } from './applications.ts'
import { type Backing, openBacking } from './backing.ts'
import { holdsPath } from './dashboard.ts'
import { effects } from './effects.ts'
import { EventAppender } from './event-appender.ts'
import { eventFlow } from './event-flow.ts'
import type { KafkaSettings } from './kafka-settings.ts'
import type { HttpPeers } from './peers.ts'
import { connectSchemas, type SchemaOptions } from './schemas.ts'
import { describeTopology } from './topology-drawing.ts'
import type { ProcessTracing } from './tracing.ts'
import { packageVersion } from './version.ts'

export interface ServiceOptions {
  readonly dataDir: string
  /** Absent: the embedded log. */
  readonly kafka?: KafkaSettings
  /** `close` gives this instance's tasks to others at once, instead of keeping them. */
  readonly leaveOnStop?: boolean
  /** The other instances of the groups; closed with the service. */
  readonly peers?: HttpPeers
  /** The applications that run here, or may: see `begunOnly`. */
  readonly topologies: readonly Topology[]
  /** Of the applications only the first and those that have begun on this log. Embedded only. */
  readonly begunOnly?: boolean
  /** What the process may take; the default of `MEMORY` unless given. */
  readonly memoryMiB?: number
  /** ms; Infinity for never. */
  readonly idleAfterMs: number
  readonly newState?: NewState
  /** Reasons for dead letters although a side output takes the record. */
  readonly deadLetters?: readonly SideReason[]
  readonly auth: AuthSettings
  /** False: a missing input topic is an error. */
  readonly createTopics: boolean
  readonly dashboardRoot?: string
  readonly schemas?: Omit<SchemaOptions, 'logger'>
  /** Closed by the caller, once the service is. */
  readonly tracing?: ProcessTracing
  readonly logger: Logger
}

export interface Service {
  readonly backing: Backing
  readonly log: EventLog
  /** At least one. */
  readonly applications: readonly Application[]
  /** Those of all applications. */
  readonly views: ViewService
  readonly appender: EventAppender
  readonly server: Server
  /** Closes what is open, the last epochs committed. Idempotent. */
  close(): Promise<void>
}

/** Opens a data folder. Nothing is processed and no port is open yet. */
export async function openService(options: ServiceOptions): Promise<Service> {
  const { topologies, dataDir, kafka, logger } = options
  checkApplications(topologies)
  const backing = await openBacking({
    dataDir,
    ...(kafka && { kafka }),
    applications: topologies.map(({ application }) => application),
    logger,
  })
  const { log } = backing
  const opened: (() => Promise<unknown>)[] = [() => backing.close()]
  const close = async (): Promise<void> => {
    for (const step of opened.splice(0).reverse()) await step()
  }
  try {
    await connectSchemas(kafka === undefined ? log : undefined, { ...options.schemas, logger })
    await prepareInputTopics(log, options.createTopics)
    const commands = readsCommands(topologies) ? [orderCommandTopic] : []
    if (commands.length > 0 && !options.begunOnly) await prepareCommandTopic(log, options)
    const applications: Application[] = []
    opened.push(() => stopAll(applications, options.leaveOnStop ?? false))
    opened.push(async () => options.peers?.close())
    await openApplications(options, backing, applications)
    const views = composeViews(
      applications.map(application => application.views),
      log.incarnation,
    )
    const topics = [...inputTopics, ...commands]
    const appender = await EventAppender.open(log, topics, options.tracing?.first)
    const server = await openServer(options, { log, applications, views, appender })
    opened.push(() => server.close())
    return { backing, log, applications, views, appender, server, close }
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
}

/** One after the other, so that each has the machine to restore. */
async function openApplications(
  options: ServiceOptions,
  backing: Backing,
  applications: Application[],
): Promise<void> {
  const { logger, topologies } = options
  const [first] = topologies
  const begun = options.begunOnly ? await begunApplications(backing.log, topologies) : topologies
  const chosen = topologies.filter(topology => topology === first || begun.includes(topology))
  for (const topology of chosen) {
    const { application } = topology
    const onError = (error: unknown) => logger.error({ err: error, application }, 'an epoch failed')
    try {
      const shared = { topology, backing, applications: chosen.length, onError }
      applications.push(await openApplication({ ...options, ...shared }))
    } catch (error) {
      logger.error({ application }, 'the application could not be opened')
      throw error
    }
  }
}

/** Each ends its last epoch; one that fails keeps none of the others from it. */
async function stopAll(applications: readonly Application[], leave: boolean): Promise<void> {
  const stops = await Promise.allSettled(applications.map(({ engine }) => engine.stop({ leave })))
  for (const stop of stops) if (stop.status === 'rejected') throw stop.reason
}

/** Input topics that no topology reads are there too: events are accepted for all of them. */
async function prepareInputTopics(log: EventLog, create: boolean): Promise<void> {
  for (const topic of inputTopics) {
    if ((await log.describeTopic(topic)) !== undefined) continue
    if (!create) throw streamsError('SOURCE_MISSING', { topic })
    await createTopicOnce(log, topic, inputPartitions)
  }
}

function readsCommands(topologies: readonly Topology[]): boolean {
  return topologies.some(({ nodes }) =>
    nodes.some(node => node.kind === 'source' && node.topic === orderCommandTopic),
  )
}

/** Commands lie as the events of their orders do: they meet in one task. */
async function prepareCommandTopic(log: EventLog, { createTopics }: ServiceOptions): Promise<void> {
  if ((await log.describeTopic(orderCommandTopic)) !== undefined) return
  if (!createTopics) throw streamsError('SOURCE_MISSING', { topic: orderCommandTopic })
  const orders = await log.describeTopic('orders')
  await createTopicOnce(log, orderCommandTopic, orders?.partitions ?? inputPartitions)
}

function openServer(
  options: ServiceOptions,
  service: Pick<Service, 'log' | 'applications' | 'views' | 'appender'>,
): Promise<Server> {
  const { log, applications, views, appender } = service
  const { schedule, clock } = effects
  const { dashboardRoot, logger, auth, tracing } = options
  return createServer({
    views,
    append: (records, traceparent) => appender.append(records, { traceparent }),
    orders: {
      append: command => appender.append([command]),
      position: () => appender.position(),
    },
    clock,
    schedule,
    ids: randomUUID,
    auth,
    version: packageVersion(),
    ...(dashboardRoot === undefined
      ? {}
      : { dashboardRoot, dashboardHolds: holdsPath(dashboardRoot) }),
    logger,
    ...(tracing && { tracing: tracing.first }),
    readiness: () => readinessOf(applications),
    topology: async () => ({
      applications: applications.map(application => ({
        ...describeTopology(application.engine.plan),
        instances: application.views.instances(),
      })),
      topics: await describeTopics(log),
    }),
    flow: eventFlow(applications.map(({ engine }) => engine.topology)),
    deadLetters: {
      of: new Map(applications.map(each => [each.name, deadLettersOf(each, log)])),
      position: () => appender.position(),
    },
  })
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
