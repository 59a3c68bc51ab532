/**
 * What makes a service act. Choreographed, it is the events of the others. Orchestrated, it is
 * commands: each is for one service and carries the event that it is about, so that a service is
 * the same whoever makes it act.
 */
import type { BusinessEvent, EventType } from '../../contracts/events.ts'
import { json, type Stream, type Topology } from '../../streams/index.ts'
import { duplicateTtlMs, orderKey } from '../analytics/event-streams.ts'
import { readEvents } from './messages.ts'
import type { ServiceSettings } from './settings.ts'

/** Partitioned as `orders` is. */
export const commandTopic = 'saga-commands'

export interface Command {
  readonly to: 'payment' | 'inventory' | 'fulfilment' | 'order'
  readonly name: 'charge' | 'refund' | 'reserve' | 'release' | 'dispatch' | 'ship' | 'cancel'
  readonly event: BusinessEvent
}

export const commandSerde = json<Command>()

export interface SagaInputs {
  readonly service: Command['to']
  /** What the service knows of an order; that of the first topic is its event time. */
  readonly facts: readonly EventType[]
  /** What makes it act. */
  readonly triggers: readonly EventType[]
}

export function sagaInputs(
  topology: Topology,
  { service, facts, triggers }: SagaInputs,
  { saga }: Pick<ServiceSettings, 'saga'>,
): Stream<string, BusinessEvent> {
  if (saga === 'choreographed') return readEvents(topology, ...facts, ...triggers)
  return readEvents(topology, ...facts).mergePassive(commandsTo(topology, service))
}

function commandsTo(topology: Topology, service: string): Stream<string, BusinessEvent> {
  return topology
    .stream(commandTopic, { key: orderKey, value: commandSerde })
    .filter(({ to }) => to === service, { name: `${commandTopic}-checked` })
    .deduplicate({
      name: `${commandTopic}-once`,
      id: { header: 'ce_id' },
      ttlMs: duplicateTtlMs,
    })
    .mapValues(({ event }) => event)
}
