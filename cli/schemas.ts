/** Where the ids of event schemas come from: a registry, the log's own topic, or this version. */
import type { Logger } from 'pino'
import { eventCodec } from '../contracts/event-codec.ts'
import type { EventType } from '../contracts/events.ts'
import { type HttpCall, RegistryClient } from '../contracts/registry-client.ts'
import {
  type Compatibility,
  RegistryDirectory,
  registerEvents,
  type SchemaRegistry,
} from '../contracts/schema-registry.ts'
import type { EventLog } from '../log/port.ts'
import { effects } from './effects.ts'
import { SchemaTopic } from './schema-topic.ts'

export interface SchemaOptions {
  readonly registryUrl?: string
  readonly compatibility?: (type: EventType) => Compatibility
  /**
   * What of the registry is left as it is: its rules of what later versions must be, or all of it.
   * Then nothing is registered, and events are read by its ids, but not written.
   */
  readonly keeps?: 'rules' | 'all'
  /** Ends waiting for a registry that is down. */
  readonly signal?: AbortSignal
  readonly logger: Pick<Logger, 'warn' | 'info'>
}

const CALL_MS_MAX = 10_000

/**
 * Registers the schemas of this version and gives the process's codec their ids. Waits for a
 * registry that is down; throws SCHEMA_REFUSED where a schema may not be used.
 *
 * A broker without a registry leaves the fixed ids: several instances share it, and none of them is
 * the one that gives ids.
 */
export async function connectSchemas(
  log: EventLog | undefined,
  { registryUrl, compatibility, keeps, signal, logger }: SchemaOptions,
): Promise<void> {
  const use = async (registry: SchemaRegistry, flush?: () => Promise<void>) => {
    const registering = keeps === undefined ? registry : guarded(registry, keeps)
    const rows = await registerEvents(registering, compatibility && { compatibility })
    await flush?.()
    const ending = signal && { signal }
    eventCodec.use(new RegistryDirectory({ registry, rows, clock: effects.clock, ...ending }))
  }
  if (registryUrl !== undefined) {
    const call = httpCall(registryUrl)
    const onRetry = (reason: string, delayMs: number) =>
      logger.warn({ reason, delayMs }, 'the schema registry cannot be asked')
    const { schedule } = effects
    await use(new RegistryClient({ call, schedule, onRetry, ...(signal && { signal }) }))
    if (keeps !== 'all') logger.info('the schemas are registered')
  } else if (log !== undefined) {
    const topic = await SchemaTopic.open(log, effects.clock)
    await use(topic, () => topic.flush())
  }
}

function guarded(registry: SchemaRegistry, keeps: 'rules' | 'all'): SchemaRegistry {
  // Registries give ids below 2^31.
  let ownId = 2 ** 32
  return {
    setCompatibility: async () => {},
    register: async (subject, schema) =>
      keeps === 'all' ? --ownId : registry.register(subject, schema),
    schemaOf: id => registry.schemaOf(id),
  }
}

const mediaType = 'application/vnd.schemaregistry.v1+json'

/** Requests below a base URL, whose user and password go into a header. */
function httpCall(registryUrl: string): HttpCall {
  const url = new URL(registryUrl)
  const user = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
  const authorization = `Basic ${Buffer.from(user).toString('base64')}`
  const headers = {
    accept: `${mediaType}, application/json`,
    'content-type': mediaType,
    ...(user === ':' ? {} : { authorization }),
  }
  url.username = ''
  url.password = ''
  const base = url.href.replace(/\/$/, '')
  return async (method, path, body) => {
    const response = await fetch(base + path, {
      method,
      headers,
      signal: AbortSignal.timeout(CALL_MS_MAX),
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, text: await response.text() }
  }
}
