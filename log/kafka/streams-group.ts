/** Joining a streams group of a cluster. */
import type { GroupTopology } from '../membership.ts'
import type { LogEnvironment } from '../port.ts'
import { checkGroup } from '../topics.ts'
import { type Cluster, isUnreachable } from './cluster.ts'
import { isTransient } from './error-codes.ts'
import { NotSent, StreamsGroupMember } from './streams-group-member.ts'
import { applySettings, type GroupSettings } from './streams-group-settings.ts'
import { checkTopicNames, wireTopology } from './streams-group-topology.ts'
import {
  type Endpoint,
  type HeartbeatReply,
  type HeartbeatRequest,
  type JoinFields,
  streamsGroupHeartbeat,
} from './streams-group-wire.ts'

export interface StreamsGroupOptions {
  readonly cluster: Cluster
  /** The application: one group, one topology. */
  readonly group: string
  /**
   * Of this data directory, kept on disk: a restart with it within the session timeout takes the
   * tasks back at once. Two processes with one id are not told apart by the group: the producer of
   * the id fences the older one, so open it before joining.
   */
  readonly memberId: string
  /** A process never gets a task and its standby; usually the member id. */
  readonly processId: string
  readonly topology: GroupTopology
  /** Where this instance answers queries; told to all members. */
  readonly endpoint?: Endpoint
  readonly rackId?: string
  readonly clientTags?: Readonly<Record<string, string>>
  /** How long giving up tasks may take before the member is removed; default 60 s. */
  readonly rebalanceTimeoutMs?: number
  /** Default: the cluster's. */
  readonly environment?: LogEnvironment
  /** Settings of the whole group, set before joining; absent ones stay as they are. */
  readonly settings?: Partial<GroupSettings>
}

const REBALANCE_TIMEOUT_MS = 60_000

/**
 * Resolves before the group has answered: `status` tells how it goes. Rejects with
 * GROUP_INVALID, GROUP_TOPOLOGY_INVALID, KAFKA_REFUSED (settings out of the broker's bounds) or
 * KAFKA_UNREACHABLE.
 */
export async function joinStreamsGroup(options: StreamsGroupOptions): Promise<StreamsGroupMember> {
  const { cluster, group, memberId, settings = {} } = options
  checkGroup(group)
  const joining = joinFieldsOf(options)
  const { sessionTimeoutMs } = await applySettings(cluster, group, settings)
  return new StreamsGroupMember({
    group,
    memberId,
    environment: options.environment ?? cluster.environment,
    sessionTimeoutMs,
    joining,
    send: request => sendHeartbeat(cluster, request),
  })
}

/** Throws GROUP_TOPOLOGY_INVALID. */
export function joinFieldsOf(options: StreamsGroupOptions): JoinFields {
  const subTopologies = wireTopology(options.topology)
  checkTopicNames(subTopologies)
  return {
    rackId: options.rackId ?? null,
    rebalanceTimeoutMs: options.rebalanceTimeoutMs ?? REBALANCE_TIMEOUT_MS,
    subTopologies,
    processId: options.processId,
    endpoint: options.endpoint ?? null,
    clientTags: options.clientTags ?? {},
  }
}

/** On a connection of its own, so that nothing else of this process can hold it up. */
async function sendHeartbeat(cluster: Cluster, request: HeartbeatRequest): Promise<HeartbeatReply> {
  const { group } = request
  const notSent = (error: unknown) => new NotSent((error as Error).message, { cause: error })
  const node = await cluster.coordinator('group', group).catch(error => {
    throw notSent(error)
  })
  try {
    const reply = await cluster.call(node, 'heartbeat', streamsGroupHeartbeat, request)
    if (isTransient(reply.error)) cluster.staleCoordinator('group', group)
    return reply
  } catch (error) {
    cluster.staleCoordinator('group', group)
    const unsent = isUnreachable(error) && (error as { details?: { sent?: unknown } }).details
    throw unsent && unsent.sent === false ? notSent(error) : error
  }
}
