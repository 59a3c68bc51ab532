/** Instances, a coordinator and the network between them, under faults drawn from a seed. */
import { ErrorCode } from '../../../log/kafka/error-codes.ts'
import { NotSent, StreamsGroupMember } from '../../../log/kafka/streams-group-member.ts'
import type { HeartbeatReply, HeartbeatRequest } from '../../../log/kafka/streams-group-wire.ts'
import { SimulatedCoordinator } from './coordinator.ts'
import { SimulatedEngine } from './engine.ts'
import { SimulatedProcess, SimulatedTime } from './time.ts'

export interface WorldOptions {
  readonly seed: number
  readonly partitions?: number
  readonly standbys?: number
  /** Of every message, in both directions. */
  readonly lossShare?: number
  readonly heedsAlive?: boolean
}

const SESSION_TIMEOUT_MS = 45_000
const INTERVAL_MS = 5_000
const REQUEST_TIMEOUT_MS = 5_000

export interface Instance {
  readonly process: SimulatedProcess
  readonly member: StreamsGroupMember
  readonly engine: SimulatedEngine
}

export class World {
  readonly time: SimulatedTime
  readonly coordinator: SimulatedCoordinator
  readonly lostUpdates: string[] = []
  /** Moments at which two instances held one task, to run it or still in a transaction. */
  readonly shared: string[] = []
  instances: Instance[] = []
  lossShare: number
  readonly #heedsAlive: boolean

  constructor(options: WorldOptions) {
    this.time = new SimulatedTime(options.seed)
    this.lossShare = options.lossShare ?? 0
    this.#heedsAlive = options.heedsAlive ?? true
    this.coordinator = new SimulatedCoordinator({
      time: this.time,
      partitions: options.partitions ?? 6,
      standbys: options.standbys ?? 0,
      sessionTimeoutMs: SESSION_TIMEOUT_MS,
      heartbeatIntervalMs: INTERVAL_MS,
    })
  }

  start(memberId: string): Instance {
    const process = new SimulatedProcess(this.time)
    const member = new StreamsGroupMember({
      group: 'simulated',
      memberId,
      environment: process.environment,
      sessionTimeoutMs: SESSION_TIMEOUT_MS,
      joining: {
        rackId: null,
        rebalanceTimeoutMs: 30_000,
        subTopologies: [],
        processId: memberId,
        endpoint: null,
        clientTags: {},
      },
      send: request => this.#deliver(process, request),
    })
    const engine = new SimulatedEngine({
      process,
      coordinator: this.coordinator,
      membership: member,
      heedsAlive: this.#heedsAlive,
      onLostUpdate: sentence => this.lostUpdates.push(sentence),
    })
    const instance = { process, member, engine }
    this.instances.push(instance)
    return instance
  }

  kill(instance: Instance): void {
    instance.process.kill()
    this.instances = this.instances.filter(other => other !== instance)
  }

  async leave(instance: Instance): Promise<void> {
    this.instances = this.instances.filter(other => other !== instance)
    await instance.member.leave()
    instance.process.kill()
  }

  async run(forMs: number): Promise<void> {
    const stepMs = 50
    for (let left = forMs; left > 0; left -= stepMs) {
      await this.time.run(stepMs)
      this.#look()
    }
  }

  /** Every task runs on one instance, which is what the group wants; '' or what is wrong. */
  get disorder(): string {
    const complaints = this.instances.flatMap(({ member, engine }) => {
      const wanted = JSON.stringify(this.coordinator.targetOf(member.memberId))
      const found = JSON.stringify(engine.owned)
      const state = member.status.state
      const calm = state === 'stable' || state === 'idle'
      const complaint = `${member.memberId} is ${state}, holds ${found}, should hold ${wanted}`
      return calm && wanted === found ? [] : [complaint]
    })
    const running = this.instances.flatMap(({ engine }) => engine.running).sort((a, b) => a - b)
    const all = this.coordinator.versions.map((_, partition) => partition)
    if (this.instances.length > 0 && running.join() !== all.join()) {
      complaints.push(`running are ${running.join()}`)
    }
    return complaints.join('; ')
  }

  #look(): void {
    const owners = new Map<number, string>()
    for (const { member, engine } of this.instances) {
      for (const partition of engine.owned.active.s ?? []) {
        const other = owners.get(partition)
        if (other !== undefined) this.shared.push(`${partition}: ${other} and ${member.memberId}`)
        owners.set(partition, member.memberId)
      }
    }
  }

  async #deliver(process: SimulatedProcess, request: HeartbeatRequest): Promise<HeartbeatReply> {
    const { time } = this
    const fault = time.random() / Math.max(this.lossShare, 1e-9)
    const lost = () => process.after(REQUEST_TIMEOUT_MS, () => this.#timedOut())
    if (fault < 0.2) return process.after(5, () => this.#notSent())
    if (fault < 0.4) return lost()
    const handle = () => this.coordinator.heartbeat(request)
    // A coordinator that moves: its answer does not say whether it has written the change.
    if (fault < 0.5) return process.after(5, () => refused(ErrorCode.NOT_COORDINATOR))
    const delayMs = fault < 0.55 ? time.between(100, 9_000) : time.between(1, 20)
    const arrived = time.after(delayMs, handle)
    if (fault < 0.55) return lost()
    const reply = await arrived
    if (fault < 0.6) return process.after(5, () => refused(ErrorCode.COORDINATOR_NOT_AVAILABLE))
    if (fault < 1) return lost()
    return process.after(time.between(1, 20), () => reply)
  }

  #timedOut(): never {
    throw new Error('the request timed out')
  }

  #notSent(): never {
    throw new NotSent('connection refused')
  }
}

function refused(error: number): HeartbeatReply {
  const interval = { heartbeatIntervalMs: 0, endpointEpoch: 0, endpoints: null }
  return { error, message: null, memberEpoch: 0, statuses: [], assignment: null, ...interval }
}
