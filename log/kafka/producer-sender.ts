/**
 * Sends the batches of one transaction, and resolves when every one is acknowledged.
 *
 * A lane is a partition and its batches in order. Requests to a broker carry at most one batch of
 * a lane (Kafka's rule) and about `REQUEST_BYTES` together; up to `IN_FLIGHT_MAX` are under way at
 * a broker. Sequence numbers are given once: what is sent again keeps its own, so that the broker
 * tells it from a new batch, and an answer that was lost costs a repetition, not a duplicate.
 *
 * Order in a lane: after a refusal that may pass, the lane sends nothing until the answers to what
 * is under way are in, and then goes on at its first batch that is not acknowledged. A batch behind
 * a refused one is refused for its sequence; that is no loss but the consequence.
 *
 * Until the first success of a lane one of its batches is under way, and until the first success at
 * a broker one request: the coordinator may still be ending the previous transaction, and
 * answers CONCURRENT_TRANSACTIONS meanwhile.
 */
import { assert, type MillraceError } from '../errors.ts'
import type { LogEnvironment, TopicPartition } from '../port.ts'
import { type Cluster, isUnreachable } from './cluster.ts'
import { ErrorCode, kindOf, nameOf } from './error-codes.ts'
import { kafkaError } from './errors.ts'
import { nextSequence, type OutgoingBatch, type ProducerIdentity } from './producer-batches.ts'
import { isTooLarge, refusalError, retryDelayMs, tooLargeError } from './producer-errors.ts'
import { type ProduceAnswer, produceV12 } from './producer-wire.ts'

const REQUEST_BYTES = 1 << 20
const IN_FLIGHT_MAX = 5

export interface SenderOptions {
  readonly cluster: Cluster
  readonly environment: LogEnvironment
  readonly transactionalId: string
  readonly identity: ProducerIdentity
  /** From now: what is not acknowledged by then fails the transaction. */
  readonly timeoutMs: number
  /** Called before every request: from then on the transaction may be open. */
  readonly onSend: () => void
}

interface Lane {
  readonly target: TopicPartition
  readonly batches: readonly OutgoingBatch[]
  /** Index of the batch to send next. */
  next: number
  inFlight: number
  /** A batch was refused: what is under way comes back first. */
  isHalted: boolean
  /** Its leader is to be looked up again. */
  isMoved: boolean
  isWaiting: boolean
  /** The broker has taken a batch of this transaction: the partition is enrolled. */
  isProven: boolean
  /** Refusals since the last success. */
  failures: number
}

interface Broker {
  readonly node: number
  readonly lanes: Set<Lane>
  inFlight: number
  isProven: boolean
}

export class Sender {
  /** Resolves when all is acknowledged; rejects with the first error that retrying cannot mend. */
  readonly done: Promise<void>
  readonly #options: SenderOptions
  readonly #brokers = new Map<number, Broker>()
  readonly #lanes: Lane[] = []
  readonly #timers = new Set<() => void>()
  #left: number
  #isOver = false
  #lastRefusal = 'the brokers gave no answer'
  #resolve: () => void = () => {}
  #reject: (error: unknown) => void = () => {}

  constructor(batches: readonly OutgoingBatch[], options: SenderOptions) {
    this.#options = options
    this.#left = batches.length
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    for (const lane of lanesOf(batches)) this.#lanes.push(lane)
    for (const lane of this.#lanes) stampLane(lane, options.identity)
    this.#later(options.timeoutMs, () => {
      const reason = `not all was acknowledged within ${options.timeoutMs} ms; ${this.#lastRefusal}`
      const { transactionalId } = options
      this.fail(kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason }))
    })
  }

  /** Not called again. Without batches `done` resolves at once. */
  start(): Promise<void> {
    if (this.#left === 0) this.#end()
    else void this.#placeAll(this.#lanes)
    return this.done
  }

  /** Ends it without success; answers still to come are ignored. */
  fail(error: unknown): void {
    if (this.#isOver) return
    this.#close()
    this.#reject(error)
  }

  #end(): void {
    this.#close()
    this.#resolve()
  }

  #close(): void {
    this.#isOver = true
    for (const cancel of this.#timers) cancel()
    this.#timers.clear()
  }

  /** Together, so that the first request to a broker has a batch of every lane. */
  async #placeAll(lanes: readonly Lane[]): Promise<void> {
    await Promise.all(lanes.map(lane => this.#place(lane)))
    this.#pumpAll()
  }

  /** Queues the lane at its leader. */
  async #place(lane: Lane): Promise<void> {
    lane.isWaiting = true
    try {
      const node = await this.#options.cluster.leader(lane.target)
      this.#broker(node).lanes.add(lane)
      lane.isWaiting = false
      lane.isMoved = false
    } catch (error) {
      if (!isUnreachable(error)) return this.fail(error)
      this.#lastRefusal = (error as MillraceError).message
      this.#later(retryDelayMs(lane.failures++), () => void this.#placeAll([lane]))
    }
  }

  #broker(node: number): Broker {
    let broker = this.#brokers.get(node)
    if (broker === undefined) {
      broker = { node, lanes: new Set(), inFlight: 0, isProven: false }
      this.#brokers.set(node, broker)
    }
    return broker
  }

  #pumpAll(): void {
    for (const broker of this.#brokers.values()) this.#pump(broker)
  }

  #pump(broker: Broker): void {
    while (!this.#isOver && broker.inFlight < (broker.isProven ? IN_FLIGHT_MAX : 1)) {
      const picked = pick(broker)
      if (picked.length === 0) return
      this.#send(broker, picked).catch(error => this.fail(error))
    }
  }

  async #send(broker: Broker, picked: readonly Lane[]): Promise<void> {
    const { cluster, transactionalId, timeoutMs, onSend } = this.#options
    onSend()
    const batches = picked.map(lane => lane.batches[lane.next++]!)
    for (const lane of picked) lane.inFlight++
    broker.inFlight++
    const answers = new Map<string, ProduceAnswer>()
    try {
      const request = { transactionalId, timeoutMs, batches }
      const all = await cluster.call(broker.node, 'produce', produceV12, request)
      for (const answer of all) answers.set(laneKey(answer), answer)
    } catch (error) {
      if (!isUnreachable(error)) return this.fail(error)
      this.#lastRefusal = (error as MillraceError).message
    }
    broker.inFlight--
    if (this.#isOver) return
    for (const [i, lane] of picked.entries()) {
      lane.inFlight--
      const answer = answers.get(laneKey(lane.target))
      if (answer === undefined) this.#halt(lane, true)
      else this.#answered(broker, lane, { batch: batches[i]!, answer })
    }
    if (this.#left === 0) return this.#end()
    this.#resume(picked)
    this.#pump(broker)
  }

  #answered(
    broker: Broker,
    lane: Lane,
    { batch, answer }: { batch: OutgoingBatch; answer: ProduceAnswer },
  ): void {
    const { errorCode, baseOffset, message } = answer
    // A repetition that the broker recognises comes with the offset of the first, unless more than
    // five batches have followed it, which the limit on requests under way rules out.
    const isRepetition = errorCode === ErrorCode.DUPLICATE_SEQUENCE_NUMBER
    if ((errorCode === 0 || isRepetition) && baseOffset >= 0) {
      if (batch.isAcknowledged) return
      batch.acknowledge(baseOffset)
      lane.isProven = true
      broker.isProven = true
      lane.failures = 0
      this.#left--
      return
    }
    const words = message === null ? '' : ` (${message})`
    const reason = `${lane.target.topic}-${lane.target.partition}: ${nameOf(errorCode)}${words}`
    this.#lastRefusal = reason
    const isConsequence =
      errorCode === ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER && !isFirstOpen(lane, batch)
    const kind = kindOf(errorCode)
    const { transactionalId } = this.#options
    if (kind === 'refresh') this.#halt(lane, true)
    else if (kind === 'retriable' || isConsequence) this.#halt(lane, false)
    else if (isTooLarge(errorCode)) this.#failTooLarge(broker.node, batch)
    else {
      const right = ['Write', lane.target.topic] as const
      this.fail(refusalError({ transactionalId, code: errorCode, reason, right }))
    }
  }

  #failTooLarge(node: number, batch: OutgoingBatch): void {
    this.#close()
    void tooLargeError(this.#options.cluster, node, batch).then(this.#reject)
  }

  #halt(lane: Lane, isMoved: boolean): void {
    lane.isHalted = true
    lane.isMoved ||= isMoved
  }

  /** Lanes that were halted, and have nothing under way any more, go on after a pause. */
  #resume(lanes: readonly Lane[]): void {
    if (this.#isOver) return
    const same: Lane[] = []
    let failures = 0
    for (const lane of lanes) {
      if (!lane.isHalted || lane.inFlight > 0) continue
      lane.isHalted = false
      lane.isWaiting = true
      lane.next = lane.batches.findIndex(batch => !batch.isAcknowledged)
      assert(lane.next >= 0, 'a halted lane has a batch to send')
      failures = Math.max(failures, lane.failures++)
      if (lane.isMoved) this.#move(lane)
      else same.push(lane)
    }
    if (same.length === 0) return
    this.#later(retryDelayMs(failures), () => {
      for (const lane of same) lane.isWaiting = false
      this.#pumpAll()
    })
  }

  #move(lane: Lane): void {
    for (const broker of this.#brokers.values()) broker.lanes.delete(lane)
    this.#options.cluster.staleTopic(lane.target.topic)
    this.#later(retryDelayMs(lane.failures), () => void this.#placeAll([lane]))
  }

  #later(delayMs: number, task: () => void): void {
    const cancel = this.#options.environment.schedule(() => {
      this.#timers.delete(cancel)
      if (!this.#isOver) task()
    }, delayMs)
    this.#timers.add(cancel)
  }
}

function lanesOf(batches: readonly OutgoingBatch[]): readonly Lane[] {
  const byTopic = Map.groupBy(batches, ({ target }) => target.topic)
  const byPartition = [...byTopic.values()].flatMap(ofTopic => [
    ...Map.groupBy(ofTopic, ({ target }) => target.partition).values(),
  ])
  return byPartition.map(ofPartition => ({
    target: ofPartition[0]!.target,
    batches: ofPartition,
    next: 0,
    inFlight: 0,
    isHalted: false,
    isMoved: false,
    isWaiting: false,
    isProven: false,
    failures: 0,
  }))
}

function stampLane(lane: Lane, identity: ProducerIdentity): void {
  let sequence = 0
  for (const batch of lane.batches) {
    batch.stamp(identity, sequence)
    sequence = nextSequence(sequence, batch.span)
  }
}

/** Lanes whose next batch goes into one request; those come first that have waited longest. */
function pick(broker: Broker): readonly Lane[] {
  const picked: Lane[] = []
  let bytes = 0
  for (const lane of broker.lanes) {
    if (lane.isHalted || lane.isWaiting) continue
    if (lane.inFlight > 0 && !lane.isProven) continue
    // Acknowledged behind a refused one: its turn is over.
    while (lane.batches[lane.next]?.isAcknowledged) lane.next++
    const batch = lane.batches[lane.next]
    if (batch === undefined) continue
    if (picked.length > 0 && bytes + batch.sizeBytes > REQUEST_BYTES) break
    picked.push(lane)
    bytes += batch.sizeBytes
  }
  for (const lane of picked) {
    broker.lanes.delete(lane)
    broker.lanes.add(lane)
  }
  return picked
}

function laneKey({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`
}

function isFirstOpen(lane: Lane, batch: OutgoingBatch): boolean {
  return lane.batches.find(one => !one.isAcknowledged) === batch
}
