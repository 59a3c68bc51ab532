/** `millrace start`: the service, until a signal ends it. */
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { type AddressInfo, createServer as createNetServer } from 'node:net'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type Logger, pino } from 'pino'
import { assertBindable } from '../api/index.ts'
import { taskName } from '../streams/task-parts.ts'
import type { Application } from './application.ts'
import { chosenApplications } from './applications.ts'
import { markDamaged } from './backing.ts'
import type { Command, Invocation, Terminal } from './command.ts'
import { remote } from './connection.ts'
import { credentials } from './credentials.ts'
import { dashboardRoot } from './dashboard.ts'
import { DemoFeed } from './demo-feed.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { removeInstance, writeInstance } from './instance-file.ts'
import { kafkaSettingNames, readKafkaSettings } from './kafka-settings.ts'
import { memoryBounds, memoryOf } from './memory.ts'
import { NotificationSender, openOutbox } from './notification-sender.ts'
import { openPeers, peerSecret, withPeers } from './peers.ts'
import { openService, type Service } from './service.ts'
import { readSettings, type Settings } from './settings.ts'
import { shippedOrders } from './shipped-orders.ts'
import { watchSignals } from './signals.ts'
import { syncEvery } from './sync-timer.ts'
import { openTracing } from './tracing.ts'

const startSettings = [
  'port',
  'host',
  'dataDir',
  'viewRetention',
  'idleAfter',
  'newState',
  'deadLetters',
  'syncInterval',
  'apiKeys',
  'allowedOrigins',
  'rate',
  'seed',
  'analytics',
  'services',
  'saga',
  'settle',
  'patience',
  ...kafkaSettingNames,
  'leaveOnStop',
  'advertised',
  'peerKey',
  'registryUrl',
  'ordersUrl',
  'apiKey',
  'schemaCompatibility',
  'jwksUrl',
  'jwtIssuer',
  'jwtAudience',
  'jwtRolesClaim',
  'otlpEndpoint',
  'traceSample',
  'traceSpans',
  'memory',
  'logLevel',
] as const
type StartSettings = Pick<Settings, (typeof startSettings)[number]>

const MAINTENANCE_MS = 60_000

export const startCommand: Command = {
  name: 'start',
  operands: '',
  operandsMin: 0,
  operandsMax: 0,
  summary: 'Runs the service: log, processors, views, HTTP and the demo.',
  settings: startSettings,
  switches: [
    { name: 'no-demo', meaning: 'no generator, and no services unless SERVICES says so' },
    { name: 'no-create-topics', meaning: 'a missing input topic is an error' },
  ],
  examples: [
    'millrace start',
    'millrace start --no-demo --port 9000 --data-dir /var/lib/millrace',
    'RATE=500 SEED=7 millrace start',
  ],
  run: start,
}

async function start({ flags, terminal }: Invocation): Promise<number> {
  const settings = readSettings(startSettings, flags, terminal.environment)
  const logger = pino({ level: settings.logLevel }, pino.destination({ dest: 2, sync: true }))
  const secret = peerSecret(settings.peerKey, settings.apiKeys)
  const auth = withPeers(credentials(settings, logger), secret)
  assertBindable(settings.host, auth)
  // Whoever has the analytics tells the story, so that one alone does.
  const withDemo = flags['no-demo'] !== true && settings.analytics
  const topologies = chosenApplications(settings, withDemo)
  const signals = watchSignals(signal => logger.info({ signal }, 'stopping'))
  const root = await builtDashboard(logger)
  await mkdir(settings.dataDir, { recursive: true })
  const address = { host: settings.host, port: settings.port || (await freePort(settings.host)) }
  const endpoint = settings.advertised ?? endpointOf(address)
  const kafka = readKafkaSettings(settings, endpoint)
  const stopping = new AbortController()
  signals.then(() => stopping.abort())
  const tracing = await openTracing({
    endpoint: settings.otlpEndpoint,
    share: settings.traceSample,
    spansPerSecondMax: settings.traceSpans,
    environment: terminal.environment,
    logger,
  })
  const opening = openService({
    dataDir: settings.dataDir,
    schemas: {
      registryUrl: registryOf(settings),
      compatibility: settings.schemaCompatibility,
      signal: stopping.signal,
    },
    ...(kafka === undefined ? {} : { kafka, peers: openPeers(endpoint, secret, { auth, logger }) }),
    leaveOnStop: settings.leaveOnStop,
    topologies,
    memoryMiB: memoryOf(settings.memory, memoryBounds()),
    idleAfterMs: settings.idleAfter,
    newState: settings.newState,
    deadLetters: settings.deadLetters,
    auth,
    createTopics: flags['no-create-topics'] !== true,
    ...(root === undefined ? {} : { dashboardRoot: root }),
    ...(tracing && { tracing }),
    logger,
  })
  const service = await opening.catch(error => {
    if (!stopping.signal.aborted) throw error
  })
  if (service === undefined) return 0
  const stops = [async () => tracing?.close(), () => service.close()]
  try {
    // Each engine answers for itself in /readyz; what serves stays up to say so.
    const damage = damageOf(service, settings.dataDir, logger)
    stops.push(maintain(service, logger))
    // On Kafka the database is a copy, and may lose what it likes.
    const syncMs = kafka === undefined ? settings.syncInterval : Number.POSITIVE_INFINITY
    const syncs = syncEvery(service.backing.database, syncMs, effects)
    stops.push(() => syncs.stop())
    await announce(service, { ...settings, ...address }, terminal)
    stops.push(() => removeInstance(settings.dataDir))
    stops.push(await startSender(service, settings, logger))
    if (withDemo) stops.push(startDemo(service, settings, logger))
    const ends = [signals, damage, shutdownOf(service, logger), syncs.failed]
    const ended = await Promise.race(ends)
    if (ended === 'damaged') return 1
  } finally {
    for (const stop of stops.reverse()) await stop()
  }
  logger.info('stopped')
  return 0
}

/** The embedded log keeps its schemas itself: every command that opens it finds them there. */
function registryOf({ registryUrl, millraceBrokers }: StartSettings): string | undefined {
  if (registryUrl === undefined || millraceBrokers !== undefined) return registryUrl
  const problems =
    '  REGISTRY_URL: needs MILLRACE_BROKERS, as the embedded log keeps its schemas itself'
  throw cliError('SETTINGS_INVALID', { problems })
}

/**
 * Each application stops when an instance of its group has asked all of them to shut down.
 * Resolves when all have.
 */
async function shutdownOf({ applications }: Service, logger: Logger): Promise<void> {
  await Promise.all(applications.map(application => shutdown(application, logger)))
}

function shutdown({ name, engine }: Application, logger: Logger): Promise<void> {
  const { membership } = engine
  return new Promise(resolve => {
    const stop = membership?.onChange(() => {
      if (!membership.status.shutdownRequested) return
      stop?.()
      logger.info({ application: name }, membership.status.detail)
      resolve(engine.stop().catch(error => logger.error({ err: error, application: name })))
    })
  })
}

/**
 * Runs the engines: one that gives up leaves the others running. Resolves when the database was
 * found damaged and is only a copy of what is on Kafka: the next start sets it aside and builds it
 * anew.
 */
function damageOf({ applications, backing }: Service, dataDir: string, logger: Logger) {
  return new Promise<'damaged'>(resolve => {
    for (const { name, engine } of applications) {
      engine.run().catch(async error => {
        logger.fatal({ err: error, application: name }, 'the engine gave up')
        if (!backing.isCopy || error.code !== 'DATABASE_CORRUPT') return
        await markDamaged(dataDir, error.message)
        logger.fatal('the database is damaged: start again to have it rebuilt from the changelogs')
        resolve('damaged')
      })
    }
  })
}

async function builtDashboard(logger: Logger): Promise<string | undefined> {
  try {
    return await dashboardRoot(text => logger.info(text))
  } catch (error) {
    // The service is of use without its page.
    logger.error({ err: error }, 'no dashboard')
    return undefined
  }
}

async function announce(
  { server }: Service,
  { host, port, dataDir }: StartSettings,
  terminal: Terminal,
): Promise<void> {
  const url = await server.listen({ host, port })
  await writeInstance(dataDir, { url: reachable(url), pid: process.pid })
  terminal.out(`millrace ready ${url}\n`)
}

/** The other instances are told the port before it is open. */
async function freePort(host: string): Promise<number> {
  const probe = createNetServer()
  probe.listen({ port: 0, host })
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

/** An address that others can reach; listening on every one of them names none. */
function endpointOf({ host, port }: { host: string; port: number }) {
  return host === '0.0.0.0' || host === '::' ? { host: hostname(), port } : { host, port }
}

/** Listening on every address is no address to connect to. */
function reachable(url: string): string {
  return url.replace(/\/\/0\.0\.0\.0(?=:|$)/, '//127.0.0.1').replace('//[::]', '//[::1]')
}

function startDemo(
  { log, applications, appender, views }: Service,
  { rate, seed }: StartSettings,
  logger: Logger,
): () => Promise<void> {
  // Of several instances it is the one with the first task.
  const { engine } = applications[0]
  const first = engine.plan.subTopologies[0]!
  const feed = new DemoFeed({
    log,
    appender,
    views,
    environment: effects,
    ratePerSecond: rate,
    seed,
    payments: !applications.some(({ name }) => name === 'payment'),
    mayFeed: () =>
      engine.assembly.task(taskName({ subTopology: first, partition: 0 })) !== undefined,
    onError: error => logger.error({ err: error }, 'the demo could not append'),
  })
  feed.start()
  return () => feed.stop()
}

/** Sends notifications where their service runs: of several instances, the one with its task 0. */
async function startSender(
  { log, applications }: Service,
  { dataDir, ordersUrl, apiKey }: StartSettings,
  logger: Logger,
) {
  const service = applications.find(({ name }) => name === 'notification')
  if (service === undefined) return async () => {}
  const { engine } = service
  const first = engine.plan.subTopologies[0]!
  const { schedule } = effects
  const url = ordersUrl?.replace(/\/$/, '')
  const sender = new NotificationSender({
    log,
    ...(url && { orderOf: shippedOrders({ connection: remote(url, apiKey), url, schedule }) }),
    channels: await openOutbox(join(dataDir, 'outbox')),
    schedule,
    maySend: () =>
      engine.assembly.task(taskName({ subTopology: first, partition: 0 })) !== undefined,
    onError: error => logger.error({ err: error }, 'notifications could not be sent'),
  })
  sender.start()
  return () => sender.stop()
}

/** Retention and compaction of the log, one pass after the other. */
function maintain({ backing }: Service, logger: Logger): () => Promise<void> {
  let cancel: () => void = () => {}
  let pass: Promise<void> = Promise.resolve()
  let stopped = false
  const again = () => {
    if (!stopped) cancel = effects.schedule(run, MAINTENANCE_MS)
  }
  const run = () => {
    pass = backing.maintain!(effects.clock()).then(
      report => {
        logger.debug(report, 'log maintained')
        again()
      },
      error => {
        logger.error({ err: error }, 'log maintenance failed')
        again()
      },
    )
  }
  if (backing.maintain !== undefined) again()
  return async () => {
    stopped = true
    cancel()
    await pass
  }
}
