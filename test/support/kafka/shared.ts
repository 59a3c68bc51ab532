/**
 * The broker and the registry that all test files of a run share. Use topic and group names of
 * your own (`ownName`); what stops, kills or configures a broker starts its own (`kafka.ts`).
 */
import { randomBytes } from 'node:crypto'
import { beforeAll, describe, inject } from 'vitest'
import { isContinuousIntegration } from '../totals.ts'
import { whatIsMissing } from './jars.ts'
import { runKafkaTool, type ToolOptions, type ToolResult } from './tool.ts'

/** Longest start, with the jars fetched on the way. */
export const START_MS_MAX = 600_000

const missing = whatIsMissing()
if (missing !== undefined && isContinuousIntegration()) throw new Error(missing)
if (missing !== undefined) console.warn(`SKIPPED: tests against Apache Kafka. ${missing}`)

/** Why tests against Kafka cannot run here; undefined when they can. In CI this throws. */
export const kafkaIsMissing: string | undefined = missing

export interface SharedKafka {
  /** `127.0.0.1:PORT`; known from the first test on. */
  readonly bootstrap: string
  tool(className: string, args: readonly string[], options?: ToolOptions): Promise<ToolResult>
}

/** Starts the shared broker unless another file did. */
export async function sharedKafka(): Promise<SharedKafka> {
  const bootstrap = await ask('/kafka')
  return { bootstrap, tool: runKafkaTool }
}

/** Base URL of the shared registry's Confluent-compatible API; starts it unless it runs. */
export function sharedRegistry(): Promise<string> {
  return ask('/registry')
}

/** `describe` for tests that need the shared broker; skipped aloud where Kafka cannot run. */
export function describeOnKafka(name: string, body: (kafka: SharedKafka) => void): void {
  describe.skipIf(missing !== undefined)(name, () => {
    let started: SharedKafka | undefined
    beforeAll(async () => {
      started = await sharedKafka()
    }, START_MS_MAX)
    body({
      get bootstrap() {
        if (started === undefined) throw new Error('Kafka is started before the first test.')
        return started.bootstrap
      },
      tool: runKafkaTool,
    })
  })
}

/** A topic, group or transactional id that no other test uses. */
export function ownName(stem: string): string {
  return `${stem}-${randomBytes(4).toString('hex')}`
}

async function ask(path: string): Promise<string> {
  const response = await fetch(inject('sharedServers') + path)
  const text = await response.text()
  if (!response.ok) throw new Error(text)
  return text
}
