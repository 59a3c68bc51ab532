/**
 * How commands reach the data: through the instance that runs on the data folder, or, when none
 * does, through the same server opened on the folder in this process, without a port.
 */
import { pino } from 'pino'
import { noAuth } from '../api/index.ts'
import { allApplications } from './applications.ts'
import { cliError } from './errors.ts'
import { findInstance } from './instance-file.ts'
import { openService } from './service.ts'
import type { Settings } from './settings.ts'

export const connectionSettings = [
  'dataDir',
  'url',
  'apiKey',
  'viewRetention',
  'newState',
  'millraceBrokers',
] as const
export type ConnectionSettings = Pick<Settings, (typeof connectionSettings)[number]>

export interface Answer {
  readonly status: number
  /** The JSON body. */
  readonly body: Readonly<Record<string, unknown>>
}

export interface Connection {
  get(path: string): Promise<Answer>
  /** Without a body unless its type is given. */
  post(path: string, type?: string, body?: Buffer<ArrayBuffer>): Promise<Answer>
  close(): Promise<void>
}

export async function connect(settings: ConnectionSettings): Promise<Connection> {
  if (settings.url !== '') return remote(settings.url, settings.apiKey)
  const instance = await findInstance(settings.dataDir)
  if (instance !== undefined) return remote(instance.url, settings.apiKey)
  if (settings.millraceBrokers === undefined) return local(settings)
  throw cliError('INSTANCE_NEEDED', { dataDir: settings.dataDir })
}

/** Asks an instance. Its calls reject with INSTANCE_UNREACHABLE. */
export function remote(url: string, apiKey: string): Connection {
  const headers: Record<string, string> = apiKey === '' ? {} : { authorization: `Bearer ${apiKey}` }
  const ask = async (path: string, init: RequestInit): Promise<Answer> => {
    try {
      const response = await fetch(url + path, init)
      return { status: response.status, body: (await response.json()) as Answer['body'] }
    } catch (error) {
      const { message, cause } = error as Error
      const reason = cause instanceof Error ? cause.message : message
      throw cliError('INSTANCE_UNREACHABLE', { url, reason }, { cause: error })
    }
  }
  return {
    get: path => ask(path, { headers }),
    post: (path, type, body) => {
      const typed = type === undefined ? headers : { ...headers, 'content-type': type }
      return ask(path, { method: 'POST', headers: typed, ...(body && { body }) })
    },
    close: async () => {},
  }
}

async function local(settings: ConnectionSettings): Promise<Connection> {
  const service = await openService({
    dataDir: settings.dataDir,
    topologies: allApplications(settings),
    begunOnly: true,
    newState: settings.newState,
    idleAfterMs: Number.POSITIVE_INFINITY,
    auth: noAuth,
    createTopics: true,
    logger: pino({ level: 'silent' }),
  })
  const { server } = service
  return {
    get: async url => {
      const { statusCode, body } = await server.inject({ method: 'GET', url })
      return { status: statusCode, body: JSON.parse(body) }
    },
    post: async (url, type, payload) => {
      const headers = type === undefined ? {} : { 'content-type': type }
      const answer = await server.inject({
        method: 'POST',
        url,
        headers,
        ...(payload && { payload }),
      })
      return { status: answer.statusCode, body: JSON.parse(answer.body) }
    },
    close: () => service.close(),
  }
}

/** Runs `work` over a connection that is closed afterwards. */
export async function withConnection<T>(
  settings: ConnectionSettings,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await connect(settings)
  try {
    return await work(connection)
  } finally {
    await connection.close()
  }
}

/** The body of a good answer. Throws INSTANCE_REFUSED on another. */
export function bodyOf({ status, body }: Answer, url = 'this data folder'): Answer['body'] {
  if (status < 400) return body
  throw cliError('INSTANCE_REFUSED', {
    url,
    status,
    reason: String(body.detail ?? body.title ?? 'no reason').replace(/\.$/, ''),
  })
}
