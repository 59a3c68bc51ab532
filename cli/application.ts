/** One application as it runs in this process: an engine with its views. */
import type { Readiness } from '../api/index.ts'
import { inputPartitions } from '../contracts/topics.ts'
import type { EventLog } from '../log/port.ts'
import { DeadLetterAdmin } from '../streams/dead-letter-admin.ts'
import { Engine } from '../streams/engine.ts'

import type { NewState } from '../streams/environment.ts'
import type { DeadLetter } from '../streams/letters.ts'
import type { SideReason } from '../streams/operator.ts'
import { replayRefusal } from '../streams/replay-steps.ts'
import type { Topology } from '../streams/topology.ts'
import { type InstanceViews, viewService } from '../streams/view-service.ts'
import type { Backing } from './backing.ts'
import { effects } from './effects.ts'
import { cachedRowsBytes, MEMORY_MIB } from './memory.ts'
import type { HttpPeers } from './peers.ts'
import type { ProcessTracing } from './tracing.ts'

export interface Application {
  readonly name: string
  readonly engine: Engine
  readonly views: InstanceViews
}

export interface ApplicationOptions {
  readonly topology: Topology
  readonly backing: Backing
  readonly peers?: HttpPeers
  /** How many applications share the heap for cached rows. */
  readonly applications: number
  readonly memoryMiB?: number
  /** ms; Infinity for never. */
  readonly idleAfterMs: number
  readonly newState?: NewState
  readonly deadLetters?: readonly SideReason[]
  readonly createTopics: boolean
  readonly tracing?: ProcessTracing
  readonly onError: (error: unknown) => void
}

/** Restores what it has. Nothing is processed yet. */
export async function openApplication(options: ApplicationOptions): Promise<Application> {
  const { topology, backing, peers, newState, tracing, memoryMiB = MEMORY_MIB } = options
  const { application } = topology
  const { database, settings } = backing
  const { log, join } = backing.application(application)
  const engine = await Engine.open({
    topology,
    log,
    database,
    environment: { ...effects, ...(tracing && { tracing: tracing.application(application) }) },
    settings: {
      ...settings,
      idleAfterMs: options.idleAfterMs,
      storeCacheBytes: Math.floor(cachedRowsBytes(memoryMiB) / options.applications),
      ...(newState && { newState }),
      deadLetters: options.deadLetters ?? [],
      createPartitions: options.createTopics ? inputPartitions : undefined,
    },
    ...(join === undefined ? {} : { join }),
    onError: options.onError,
  })
  const { incarnation } = log
  const remote = peers && { remote: peers }
  const views = viewService({ engine, ...effects, incarnation, ...remote })
  return { name: application, engine, views }
}

/** The dead letters of an application, in the log that it shares with the others. */
export function deadLettersOf({ name, engine }: Application, log: EventLog): DeadLetterAdmin {
  const { topology } = engine
  const refusal = (letter: DeadLetter) => replayRefusal(topology, letter)
  return new DeadLetterAdmin({ application: name, log, clock: effects.clock, refusal })
}

/** Ready once all are; the reason names the first that is not. */
export function readinessOf(applications: readonly Application[]): Readiness {
  const checks = {
    applications: applications.map(({ name, engine }) => ({
      application: name,
      state: engine.state,
    })),
  }
  const waiting = applications.find(({ engine }) => engine.state !== 'running')
  if (waiting === undefined) return { ready: true, checks }
  const [task] = waiting.engine.tasks()
  const reason = `${waiting.name}: ${task?.detail ?? waiting.engine.state}`
  return { ready: false, reason, checks }
}
