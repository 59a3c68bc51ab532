/**
 * A task: one sub-topology for one partition. It moves batches and watermarks through its
 * operators in topological order, once a round: an operator gets every record of the round
 * before the watermark that the round reached, so a watermark never overtakes its records.
 */
import { type Aside, recordAt } from './aside.ts'
import type { Batch } from './batch.ts'
import type { Closing } from './closing.ts'
import { AssertionFailed } from './errors.ts'
import type { FailureContext, Operator, SideReason } from './operator.ts'
import type { SubTopology } from './plan.ts'
import { type StepsTowards, stepId, tells } from './replay-steps.ts'
import type { Unwritten } from './sinks.ts'
import { markDropped, type Spans, type StepSpans, type Traces } from './spans.ts'
import { TaskOutputs } from './task-outputs.ts'
import type { Edge, ExchangeNode, SinkNode, TopologyNode } from './topology.ts'
import { type InputProgress, Watermark } from './watermark.ts'

/** What a task hands its results to. */
export interface TaskSurroundings {
  /** A batch for an exchange whose receiving end is in another sub-topology. */
  exchange(node: ExchangeNode, fromPartition: number, batch: Batch): void
  /** Watermark of this task along that edge. */
  exchangeProgress(node: ExchangeNode, fromPartition: number, progress: InputProgress): void
  /** Gives back what could not be written. */
  sink(node: SinkNode, partition: number, batch: Batch): readonly Unwritten[]
  /** Gives the number of attempts. Throws, to end the epoch, when there is to be another. */
  failed(record: FailedRecord): number
  /** Whether what leaves by the reason is a dead letter; `claimed` when a side output takes it. */
  keeps(reason: SideReason, claimed: boolean): boolean
  /** Such a record. */
  dropped(record: DroppedRecord): void
  /** Absent: nothing is traced. */
  readonly spans?: Spans | undefined
}

export interface FailedRecord {
  readonly node: TopologyNode
  readonly batch: Batch
  readonly index: number
  readonly error: unknown
}

export interface DroppedRecord extends Partial<FailedRecord> {
  readonly node: TopologyNode
  readonly partition: number
  readonly batch: Batch
  readonly index: number
  readonly reason: SideReason
  readonly detail: string
  /** How often it was tried; once unless given. */
  readonly attempts?: number
  /** The step has kept some of it. */
  readonly isPart?: boolean
  /** Id of the step that it is for: another one where it was on its way there, replayed. */
  readonly step: string
}

interface Child {
  readonly runtime: NodeRuntime
  /** Which input of the child this edge is. */
  readonly port: number
}

/** One node of one task, with its inbox, watermark and counters. */
export class NodeRuntime {
  readonly node: TopologyNode
  readonly operator: Operator | undefined
  readonly watermark: Watermark
  readonly inbox: Batch[] = []
  readonly ports: number[] = []
  readonly children = new Map<string, Child[]>()
  readonly exchanges: ExchangeNode[] = []
  readonly dropped = new Map<SideReason, number>()
  recordsIn = 0
  /** The watermark at the end of the last round: what lateness of returners is judged by. */
  closedMs = Number.NEGATIVE_INFINITY
  /** How far closing has come where that watermark asks for more than one step (law 13). */
  closing: Closing | undefined
  /** Of a source: the offset at which its branch began to read it, if that is known. */
  beganAt: number | undefined

  constructor(node: TopologyNode, operator: Operator | undefined, inputs: number) {
    this.node = node
    this.operator = operator
    this.watermark = new Watermark(inputs)
  }

  receive(batch: Batch, port: number): void {
    if (batch.length === 0) return
    this.inbox.push(batch)
    this.ports.push(port)
  }
}

export interface TaskOptions {
  readonly subTopology: SubTopology
  readonly nodes: readonly TopologyNode[]
  readonly partition: number
  readonly operators: ReadonlyMap<number, Operator>
  /** Upstream task count of each exchange that arrives here. */
  readonly exchangeInputs: ReadonlyMap<number, number>
  readonly surroundings: TaskSurroundings
  readonly aside: Aside
  /** Steps that a replayed record passes, by the step that it is for. */
  readonly towards: StepsTowards
}

export class Task {
  readonly subTopology: SubTopology
  readonly partition: number
  readonly runtimes: readonly NodeRuntime[]
  readonly #byId = new Map<number, NodeRuntime>()
  readonly #surroundings: TaskSurroundings
  readonly #aside: Aside
  readonly #towards: StepsTowards
  #punctuationMs: number | undefined
  #punctuatesAgain = false

  constructor(options: TaskOptions) {
    this.subTopology = options.subTopology
    this.partition = options.partition
    this.#surroundings = options.surroundings
    this.#aside = options.aside
    this.#towards = options.towards
    this.runtimes = options.subTopology.nodes.map(id => {
      const node = options.nodes[id]!
      const inputs =
        node.kind === 'source'
          ? 1
          : node.kind === 'exchange'
            ? options.exchangeInputs.get(id)!
            : node.parents.length
      const runtime = new NodeRuntime(node, options.operators.get(id), inputs)
      for (const port of node.kind === 'operator' ? (node.passivePorts ?? []) : []) {
        runtime.watermark.set(port, { timeMs: Number.NEGATIVE_INFINITY, idle: true })
      }
      this.#byId.set(id, runtime)
      return runtime
    })
    for (const runtime of this.runtimes) {
      if (runtime.node.kind === 'exchange') continue
      runtime.node.parents.forEach((edge, port) => {
        this.#connect(edge, { runtime, port })
      })
    }
    for (const node of options.nodes) {
      if (node.kind !== 'exchange') continue
      for (const edge of node.parents) this.#byId.get(edge.node)?.exchanges.push(node)
    }
  }

  get name(): string {
    return `${this.subTopology.name}/${this.partition}`
  }

  runtime(node: number): NodeRuntime {
    return this.#byId.get(node)!
  }

  has(node: number): boolean {
    return this.#byId.has(node)
  }

  #connect(edge: Edge, child: Child): void {
    const { children } = this.#byId.get(edge.node)!
    const list = children.get(edge.output)
    if (list === undefined) children.set(edge.output, [child])
    else list.push(child)
  }

  /** Moves everything in the inboxes, then the watermarks, through the task. */
  async run(): Promise<void> {
    const punctuationMs = this.#punctuationMs
    this.#punctuationMs = undefined
    this.#punctuatesAgain = false
    for (const runtime of this.runtimes) {
      if (punctuationMs !== undefined) await this.#punctuate(runtime, punctuationMs)
      if (runtime.inbox.length > 0) await this.#drain(runtime)
      const advanced = runtime.watermark.advance()
      if (advanced || runtime.closing !== undefined) await this.#close(runtime)
      this.#tellWatermark(runtime)
    }
  }

  /** There is more to close or to punctuate: it takes further epochs, before more is read. */
  get closing(): boolean {
    return this.#punctuatesAgain || this.runtimes.some(({ closing }) => closing !== undefined)
  }

  /** No record waits before any of its steps. */
  get isThrough(): boolean {
    return this.runtimes.every(({ inbox }) => inbox.length === 0)
  }

  get hasWallClock(): boolean {
    return this.runtimes.some(runtime => runtime.operator?.onWallClock !== undefined)
  }

  /** Wall-clock punctuation: happens at the beginning of the next run. */
  punctuate(wallTimeMs: number): void {
    this.#punctuationMs = wallTimeMs
  }

  async #punctuate(runtime: NodeRuntime, wallTimeMs: number): Promise<void> {
    const { operator } = runtime
    if (operator?.onWallClock === undefined) return
    if ((await operator.prepareWallClock?.(wallTimeMs)) === true) {
      this.#punctuationMs = wallTimeMs
      this.#punctuatesAgain = true
    }
    const outputs = new TaskOutputs(this, runtime)
    operator.onWallClock(wallTimeMs, outputs)
    this.#forward(runtime, outputs)
  }

  async #drain(runtime: NodeRuntime): Promise<void> {
    const { operator, inbox, ports } = runtime
    for (let i = 0; i < inbox.length; i++) {
      let batch = inbox[i]!
      const { target } = batch
      if (target !== undefined && this.isFor(runtime.node, target)) {
        batch = await this.#missing(runtime, batch)
      }
      runtime.recordsIn += batch.length
      if (runtime.node.kind === 'sink') {
        for (const unwritten of this.#surroundings.sink(runtime.node, this.partition, batch)) {
          const { index } = unwritten
          if ('error' in unwritten) this.fail(runtime, { batch, ...unwritten })
          else this.drop(runtime, { batch, index, reason: 'too-large', detail: unwritten.detail })
        }
      } else if (operator === undefined || this.#passes(runtime.node, batch)) {
        this.#forwardMain(runtime, batch)
      } else {
        const outputs = new TaskOutputs(this, runtime)
        const { traces } = batch
        const step = traces && this.#step(runtime.node, traces)
        const reading = operator.prepare?.(batch, ports[i]!)
        if (reading !== undefined) await reading
        // Only meanwhile: other steps have the same batch.
        if (step !== undefined) batch.traces = step.spans
        operator.process(batch, ports[i]!, outputs)
        if (step !== undefined) {
          batch.traces = traces
          step.end()
        }
        if (batch.target !== undefined) outputs.aim(batch.target)
        this.#forward(runtime, outputs)
      }
    }
    inbox.length = 0
    ports.length = 0
  }

  /** Of records replayed for this step, those that it has not. */
  async #missing({ node, dropped }: NodeRuntime, batch: Batch): Promise<Batch> {
    const missing = await this.#aside.take(stepId(node), batch)
    const had = batch.length - missing.length
    if (had > 0 && node.copy !== true) {
      dropped.set('duplicate', (dropped.get('duplicate') ?? 0) + had)
    }
    // Of a source all steps below are still to have it.
    if (node.kind === 'source') missing.target = undefined
    return missing
  }

  /** Spans of a step with state; others take too little time to be looked at. */
  #step(node: TopologyNode, traces: Traces): StepSpans | undefined {
    if (node.kind !== 'operator' || node.stores.length === 0) return undefined
    return this.#surroundings.spans?.step(node.name, this.partition, traces)
  }

  async #close(runtime: NodeRuntime): Promise<void> {
    const { operator } = runtime
    const watermarkMs = runtime.watermark.timeMs
    if (operator !== undefined) {
      const reading = operator.prepareClose?.(watermarkMs, runtime.closing)
      runtime.closing = reading && (await reading)
      if (operator.close !== undefined) {
        const outputs = new TaskOutputs(this, runtime)
        operator.close(watermarkMs, outputs)
        this.#forward(runtime, outputs)
      }
    }
    runtime.closedMs = watermarkMs
  }

  #tellWatermark(runtime: NodeRuntime): void {
    const { watermark, closing, operator } = runtime
    const closedMs = closing?.closedMs ?? watermark.timeMs
    const timeMs = operator?.forwardedWatermark?.(closedMs) ?? closedMs
    // What is still to be closed may not be overtaken, so it is not idle yet.
    const progress = { timeMs, idle: watermark.idle && closing === undefined }
    for (const list of runtime.children.values()) {
      for (const child of list) {
        const { node, watermark } = child.runtime
        if (node.kind === 'operator' && node.passivePorts?.includes(child.port)) continue
        watermark.set(child.port, progress)
      }
    }
    for (const exchange of runtime.exchanges) {
      this.#surroundings.exchangeProgress(exchange, this.partition, progress)
    }
  }

  #forward(runtime: NodeRuntime, outputs: TaskOutputs): void {
    if (outputs.main !== undefined) this.#forwardMain(runtime, outputs.main)
    if (outputs.sides === undefined) return
    for (const [reason, batch] of outputs.sides) {
      for (const child of runtime.children.get(reason) ?? []) {
        // Who is not on the way has not had the record: it did not come out here before.
        const own = this.#leads(child.runtime.node, batch) ? batch : batch.replaced({})
        child.runtime.receive(own, child.port)
      }
    }
  }

  #forwardMain(runtime: NodeRuntime, batch: Batch): void {
    if (batch.length === 0) return
    for (const child of runtime.children.get('main') ?? []) {
      if (this.#leads(child.runtime.node, batch)) child.runtime.receive(batch, child.port)
    }
    for (const exchange of runtime.exchanges) {
      if (this.#leads(exchange, batch)) {
        this.#surroundings.exchange(exchange, this.partition, batch)
      }
    }
  }

  /** The node is the step that a replayed record is for. */
  isFor(node: TopologyNode, target: string): boolean {
    return this.#towards(target).targets.has(node.id)
  }

  /** A replayed record was let through before: it is a copy to nobody. */
  #passes(node: TopologyNode, { target }: Batch): boolean {
    if (target === undefined || node.kind !== 'operator') return false
    return node.type === 'deduplicate' && !this.isFor(node, target)
  }

  /** False where a replayed record was before. */
  #leads(node: TopologyNode, { target }: Batch): boolean {
    return target === undefined || this.#towards(target).nodes.has(node.id)
  }

  /** Counts a dropped record and sends it on, to the side output or to the dead letters. */
  drop(runtime: NodeRuntime, record: Omit<DroppedRecord, 'node' | 'partition' | 'step'>): void {
    const { node } = runtime
    const { batch, index, reason, detail, isPart } = record
    const { target } = batch
    const own = stepId(node)
    const step = target === undefined || this.isFor(node, target) ? own : target
    const isLetter = this.#surroundings.keeps(reason, runtime.children.has(reason))
    if (tells(node, this.#towards, target)) {
      runtime.dropped.set(reason, (runtime.dropped.get(reason) ?? 0) + 1)
      if (batch.traces !== undefined) markDropped(batch.traces.get(index), reason, detail)
      const whole = { ...record, node, partition: this.partition, step }
      if (isLetter) this.#surroundings.dropped(whole)
    }
    // What a step has had is not missing there; what was on its way to another is noted there.
    const isMissing = isPart !== true && reason !== 'duplicate' && step === own
    if (isLetter && isMissing) this.#aside.put(own, recordAt(batch, index))
  }

  /** Drops a record whose processing threw, unless it is to be tried again; gives the reason. */
  fail(
    runtime: NodeRuntime,
    record: Omit<FailedRecord, 'node'>,
    { reason, during, isPart }: FailureContext = {},
  ): SideReason {
    const { error } = record
    if (error instanceof AssertionFailed) throw error
    const attempts = this.#surroundings.failed({ ...record, node: runtime.node })
    const why = reason ?? (error instanceof RangeError ? 'overflow' : 'poison')
    const detail = during === undefined ? String(error) : `${during}: ${error}`
    this.drop(runtime, { ...record, reason: why, detail, attempts, ...(isPart && { isPart }) })
    return why
  }
}
