/**
 * One broker and one registry for all test files of a run. Nothing starts until a test asks: the
 * main process answers `GET /kafka` and `GET /registry` on a loopback port, and starts what is
 * asked for the first time.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  interface ProvidedContext {
    sharedServers: string
  }
}

interface Shared {
  readonly address: string
  end(): Promise<void>
}

const starters: Readonly<Record<string, () => Promise<Shared>>> = {
  async '/kafka'() {
    const { startKafka, steady } = await import('./kafka.ts')
    const kafka = await startKafka({ config: steady })
    return { address: kafka.bootstrap, end: () => kafka.destroy() }
  },
  async '/registry'() {
    const { startRegistry } = await import('./registry.ts')
    const registry = await startRegistry()
    return { address: registry.url, end: () => registry.stop() }
  },
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const started = new Map<string, Promise<Shared>>()
  const desk = createServer(async ({ url = '' }, response) => {
    const starter = starters[url]
    if (starter === undefined) return response.writeHead(404).end()
    if (!started.has(url)) started.set(url, starter())
    try {
      response.end((await started.get(url)!).address)
    } catch (error) {
      response.writeHead(500).end(String(error))
    }
  })
  desk.listen(0, '127.0.0.1')
  await once(desk, 'listening')
  project.provide('sharedServers', `http://127.0.0.1:${(desk.address() as AddressInfo).port}`)
  return async () => {
    desk.close()
    desk.closeAllConnections()
    const all = await Promise.allSettled(started.values())
    await Promise.all(all.map(one => (one.status === 'fulfilled' ? one.value.end() : undefined)))
  }
}
