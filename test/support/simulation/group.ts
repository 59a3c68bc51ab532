/**
 * The group of a simulated cluster: real members against the model of the coordinator. The model
 * knows partitions of one sub-topology only, so each task of the plan is one of them.
 */
import { ErrorCode } from '../../../log/kafka/error-codes.ts'
import { NotSent, StreamsGroupMember } from '../../../log/kafka/streams-group-member.ts'
import { wireTopology } from '../../../log/kafka/streams-group-topology.ts'
import type {
  HeartbeatReply,
  HeartbeatRequest,
  TopicPartitions,
} from '../../../log/kafka/streams-group-wire.ts'
import { type Assignment, noTasks, type TaskIds } from '../../../log/membership.ts'
import type { CommitRequest } from '../../../log/port.ts'
import { groupTopology } from '../../../streams/group-topology.ts'
import type { Plan } from '../../../streams/plan.ts'
import { offsetsOf, type TaskId, taskName } from '../../../streams/task-parts.ts'
import { SimulatedCoordinator } from '../streams-group/coordinator.ts'
import type { SimulatedProcess, SimulatedTime } from '../streams-group/time.ts'
import { placeOf, SimulatedFault } from './broker.ts'

export interface GroupOptions {
  readonly time: SimulatedTime
  readonly plan: Plan
  readonly standbys: number
}

const SESSION_TIMEOUT_MS = 6_000
const HEARTBEAT_INTERVAL_MS = 1_000
const REQUEST_TIMEOUT_MS = 1_000
const REBALANCE_TIMEOUT_MS = 5_000
const MODEL = 's'

export class SimulatedGroup {
  readonly coordinator: SimulatedCoordinator
  /** Of every heartbeat, there and back. */
  lossShare = 0
  readonly #options: GroupOptions
  readonly #tasks: readonly TaskId[]
  /** Place of the task that reads a partition. */
  readonly #readers = new Map<string, number>()
  /**
   * When the last heartbeat of each member arrives. One that arrives after a later join takes the
   * assignment with it that nobody repeats; the group cannot tell them apart.
   */
  readonly #arrivals = new Map<string, number>()
  /** Until when nothing of a member gets through. */
  readonly #cutOff = new Map<string, number>()
  /** What each member was assigned last; the group tells all of them. */
  readonly #assigned = new Map<string, Assignment>()
  #endpointEpoch = 0
  #endpoints = ''

  constructor(options: GroupOptions) {
    this.#options = options
    const { plan, time, standbys } = options
    this.#tasks = plan.subTopologies.flatMap(subTopology =>
      Array.from({ length: subTopology.partitions }, (_, partition) => ({
        subTopology,
        partition,
      })),
    )
    this.#tasks.forEach((task, place) => {
      for (const read of offsetsOf({ plan, remote: true }, task)) {
        this.#readers.set(placeOf(read), place)
      }
    })
    this.coordinator = new SimulatedCoordinator({
      time,
      standbys,
      partitions: this.#tasks.length,
      sessionTimeoutMs: SESSION_TIMEOUT_MS,
      heartbeatIntervalMs: HEARTBEAT_INTERVAL_MS,
    })
  }

  join(memberId: string, process: SimulatedProcess): StreamsGroupMember {
    return new StreamsGroupMember({
      group: this.#options.plan.topology.application,
      memberId,
      environment: process.environment,
      sessionTimeoutMs: SESSION_TIMEOUT_MS,
      joining: {
        rackId: null,
        rebalanceTimeoutMs: REBALANCE_TIMEOUT_MS,
        subTopologies: wireTopology(groupTopology(this.#options.plan)),
        processId: memberId,
        endpoint: { host: memberId, port: 1 },
        clientTags: {},
      },
      send: request => this.#deliver(process, request),
    })
  }

  /** Nothing of the member reaches the group meanwhile. */
  cutOff(memberId: string, forMs: number): void {
    this.#cutOff.set(memberId, this.#options.time.nowMs + forMs)
  }

  heal(): void {
    this.lossShare = 0
    this.#cutOff.clear()
  }

  /** Throws what a broker answers to offsets that a member may not commit. */
  check({ member, offsets = [] }: CommitRequest): void {
    if (member === undefined) throw new Error('a member of a group says who it is')
    const places = new Set(offsets.map(offset => this.#readers.get(placeOf(offset))!))
    if (!this.coordinator.commit(member.id, member.epoch, [...places])) {
      throw new SimulatedFault(`${member.id} may not commit at epoch ${member.epoch}`)
    }
  }

  taskOf(place: string): string | undefined {
    const found = this.#readers.get(place)
    return found === undefined ? undefined : taskName(this.#tasks[found]!)
  }

  async #deliver(process: SimulatedProcess, request: HeartbeatRequest): Promise<HeartbeatReply> {
    const { time } = this.#options
    const fault = time.random() / Math.max(this.lossShare, 1e-9)
    const isCut = (this.#cutOff.get(request.memberId) ?? 0) > time.nowMs
    const lost = () => process.after(REQUEST_TIMEOUT_MS, () => timedOut())
    if (isCut) return lost()
    if (fault < 0.2) return process.after(5, () => notSent())
    if (fault < 0.4) return lost()
    // In the order in which they were sent, also by a process and its successor.
    const arrivalMs = Math.max(
      time.nowMs + time.between(1, fault < 0.6 ? 3_000 : 20),
      this.#arrivals.get(request.memberId) ?? 0,
    )
    this.#arrivals.set(request.memberId, arrivalMs)
    const arrived = time.after(arrivalMs - time.nowMs, () => {
      const reply = this.#fromModel(this.coordinator.heartbeat(this.#toModel(request)))
      if (reply.assignment !== null) this.#assigned.set(request.memberId, reply.assignment)
      return { ...reply, ...this.#tellEndpoints(request.endpointEpoch) }
    })
    if (fault < 0.6) return lost()
    const reply = await arrived
    if (fault < 0.7) return process.after(5, () => refused(ErrorCode.COORDINATOR_NOT_AVAILABLE))
    if (fault < 1) return lost()
    return process.after(time.between(1, 20), () => reply)
  }

  /** Where the members can be asked for their tasks, to those that were told otherwise. */
  #tellEndpoints(toldEpoch: number): Pick<HeartbeatReply, 'endpoints' | 'endpointEpoch'> {
    const endpoints = this.coordinator.memberIds.map(host => {
      const { active, standby } = this.#assigned.get(host) ?? noTasks
      return { host, port: 1, active: this.#topics(active), standby: this.#topics(standby) }
    })
    const now = JSON.stringify(endpoints)
    if (now !== this.#endpoints) this.#endpointEpoch++
    this.#endpoints = now
    const endpointEpoch = this.#endpointEpoch
    return { endpointEpoch, endpoints: toldEpoch === endpointEpoch ? null : endpoints }
  }

  #topics(ids: TaskIds): TopicPartitions {
    const { plan } = this.#options
    return this.#tasks
      .filter(({ subTopology, partition }) => ids[subTopology.name]?.includes(partition))
      .flatMap(task => offsetsOf({ plan, remote: true }, task))
      .map(({ topic, partition }) => [topic, [partition]] as const)
  }

  #toModel(request: HeartbeatRequest): HeartbeatRequest {
    const { owned } = request
    if (owned === null) return request
    const places = (ids: TaskIds): TaskIds => {
      const found = this.#tasks.flatMap(({ subTopology, partition }, place) =>
        ids[subTopology.name]?.includes(partition) ? [place] : [],
      )
      return found.length === 0 ? {} : { [MODEL]: found }
    }
    const { active, standby, warmup } = owned
    return {
      ...request,
      owned: { active: places(active), standby: places(standby), warmup: places(warmup) },
    }
  }

  #fromModel(reply: HeartbeatReply): HeartbeatReply {
    const { assignment } = reply
    if (assignment === null) return reply
    const ids = (places: TaskIds): TaskIds => {
      const found: Record<string, number[]> = {}
      for (const place of places[MODEL] ?? []) {
        const { subTopology, partition } = this.#tasks[place]!
        ;(found[subTopology.name] ??= []).push(partition)
      }
      return found
    }
    const { active, standby, warmup } = assignment
    const named: Assignment = { active: ids(active), standby: ids(standby), warmup: ids(warmup) }
    return { ...reply, assignment: named }
  }
}

function timedOut(): never {
  throw new Error('the request timed out')
}

function notSent(): never {
  throw new NotSent('connection refused')
}

function refused(error: number): HeartbeatReply {
  const interval = { heartbeatIntervalMs: 0, endpointEpoch: 0, endpoints: null }
  return { error, message: null, memberEpoch: 0, statuses: [], assignment: null, ...interval }
}
