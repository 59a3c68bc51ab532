/** The applications of this version, and which of them run in this process. */

import type { EventLog } from '../log/port.ts'
import { analyticsTopology } from '../processors/analytics/analytics.ts'
import { orderingTopology } from '../processors/orders/ordering.ts'
import { serviceTopologies } from '../processors/services/services.ts'
import type { Topology } from '../streams/topology.ts'
import { cliError } from './errors.ts'
import { isInternalTopic } from './salvage-plan.ts'

/** Name of the analytics application: its group, and the prefix of its internal topics. */
export const ANALYTICS = 'analytics'

export interface ApplicationSettings {
  /** How long views keep their windows, ms; Infinity for ever. */
  readonly viewRetention: number
  /** What the order services are set up with; their defaults where nothing of them matters. */
  readonly seed?: number
  readonly saga?: 'choreographed' | 'orchestrated'
  readonly settle?: number
  readonly patience?: number
}

/** Every application there is, analytics first. */
export function allApplications(settings: ApplicationSettings): Topology[] {
  return [
    analyticsTopology({ retentionMs: settings.viewRetention }),
    orderingTopology(),
    ...serviceTopologies(serviceSettings(settings)),
  ]
}

function serviceSettings({ seed, saga, settle, patience }: ApplicationSettings) {
  return {
    ...(seed !== undefined && { seed }),
    ...(saga !== undefined && { saga }),
    ...(settle !== undefined && { settleMs: settle }),
    ...(patience !== undefined && { patienceMs: patience }),
  }
}

export interface Selection extends ApplicationSettings {
  readonly analytics: boolean
  /** Some by name; all, none, or undefined for what goes with the demo. */
  readonly services: readonly string[] | 'on' | 'off' | undefined
}

/** Those that a process runs. Throws SETTINGS_INVALID for a name that is none, and for none. */
export function chosenApplications(selection: Selection, withDemo: boolean): Topology[] {
  const { analytics, services = withDemo ? 'on' : 'off' } = selection
  const all = allApplications(selection)
  const names = all.map(({ application }) => application).filter(name => name !== ANALYTICS)
  const wanted = services === 'on' ? names : services === 'off' ? [] : services
  const unknown = wanted.filter(name => !names.includes(name))
  if (unknown.length > 0) {
    const problems = `  SERVICES: there is no service ${unknown.join(', ')}; there are ${names.join(', ') || 'none'}`
    throw cliError('SETTINGS_INVALID', { problems })
  }
  const chosen = all.filter(({ application }) =>
    application === ANALYTICS ? analytics : wanted.includes(application),
  )
  if (chosen.length > 0) return chosen
  const problems = '  ANALYTICS, SERVICES: with both off nothing would run'
  throw cliError('SETTINGS_INVALID', { problems })
}

/** Those that have begun on a log: they have internal topics there. */
export async function begunApplications(
  log: EventLog,
  all: readonly Topology[],
): Promise<Topology[]> {
  const topics = await log.listTopics()
  return all.filter(({ application }) =>
    topics.some(({ name }) => isInternalTopic(application, name)),
  )
}
