/**
 * A topology as data: nodes and edges, complete and valid before anything runs. The fluent
 * types in `stream.ts` and `table.ts` only add nodes to it; `plan.ts` cuts it into
 * sub-topologies at the exchanges; `task.ts` runs them.
 */
import { streamsError } from './errors.ts'
import { GlobalTable } from './global-table.ts'
import type { Emission, Operator, OperatorContext, SideReason, StoreSpec } from './operator.ts'
import type { RetryPolicy } from './retries.ts'
import type { KeySerde, ValueSerde } from './serde.ts'
import { Stream, type StreamOptions } from './stream.ts'
import type { Table } from './table.ts'
import { type TableOptions, tableOf } from './tables.ts'
import type { ViewDeclaration } from './views.ts'

/** Which output of a node an edge leaves from. */
export type OutputPort = 'main' | SideReason

export interface Edge {
  readonly node: number
  readonly output: OutputPort
}

interface NodeBase {
  readonly id: number
  /** Given by hand for stateful nodes, sources and exchanges: names are identity. */
  readonly name: string
  readonly parents: readonly Edge[]
  /** Which branch it runs in (`branches.ts`); 0 unless given. */
  readonly branch?: number
  /** It runs in another branch, too, which counts and keeps what it drops. */
  readonly copy?: boolean
  /** How often a record is tried again; as the engine's settings say unless given. */
  readonly retry?: RetryPolicy
}

export interface SourceNode extends NodeBase {
  readonly kind: 'source'
  readonly topic: string
  /** The topic whose offsets say how far it is read; its own unless given. */
  readonly positions?: string
  readonly key: KeySerde<unknown>
  readonly value: ValueSerde<unknown>
}

export interface OperatorNode extends NodeBase {
  readonly kind: 'operator'
  /** What the operator is, for printing: `filter`, `window-aggregate`. */
  readonly type: string
  readonly create: (context: OperatorContext) => Operator
  readonly stores: readonly StoreSpec[]
  /** What the rows of its stores mean beside their bytes: key, windows, reach. */
  readonly identity?: string
  readonly emission: Emission
  /** Windows, stream joins and deduplication: they may not follow emit-on-update (law 8). */
  readonly timeDependent: boolean
  /** Inputs that do not count in its watermark: the table of a stream-table join. */
  readonly passivePorts?: readonly number[]
  /** A row is what was written last, whatever its time: an older record that comes back wins. */
  readonly keepsLast?: boolean
  /** Names of the messages that pass, where it lets only some: for whoever describes the flow. */
  readonly messages?: readonly string[]
}

export interface ExchangeNode extends NodeBase {
  readonly kind: 'exchange'
  readonly key: KeySerde<unknown>
  /** How values are written where an edge leads to another instance. */
  readonly value: ValueSerde<unknown>
  /** Absent: as many as the upstream sub-topology has. */
  readonly partitions: number | undefined
  /** As many as there are tasks of this node. */
  readonly partitionsOf?: number
  /** Each record goes to all partitions. */
  readonly broadcast?: boolean
}

/** Headers of a record that is written. */
export type SinkHeaders = (
  value: unknown,
  key: unknown,
) => Readonly<Record<string, string>> | undefined

export interface SinkNode extends NodeBase {
  readonly kind: 'sink'
  readonly topic: string
  readonly key: KeySerde<unknown>
  readonly value: ValueSerde<unknown>
  /** Beside the headers of the record it comes from. */
  readonly headers?: SinkHeaders | undefined
}

export type TopologyNode = SourceNode | OperatorNode | ExchangeNode | SinkNode

/** How the rows of a view's store become its flat rows. */
export interface ViewNode {
  readonly declaration: ViewDeclaration
  /** The operator node whose store is the view. */
  readonly node: number
  readonly store: string
  readonly key: KeySerde<unknown>
  /** Window views: end of a row's window after its start. */
  readonly windowSizeMs: number | undefined
  /** Session views: how far apart the events of one session may be. */
  readonly gapMs: number | undefined
  readonly graceMs: number
  /** True when a stored row is the value itself, else it has the time it stands for beside it. */
  readonly untimed: boolean
  /** Value fields of a row; undefined hides the row. */
  readonly project: (value: unknown, key: unknown) => Record<string, unknown> | undefined
  readonly keyFields: (key: unknown) => Record<string, unknown>
}

type NewNode<T> = T extends TopologyNode ? Omit<T, 'id'> : never

export class Topology {
  /** Also the consumer group and the prefix of internal topics. */
  readonly application: string
  readonly nodes: TopologyNode[] = []
  readonly views: ViewNode[] = []

  constructor(application: string) {
    this.application = checkName('application', application)
  }

  /** The records of a topic. A topic is read once: take the stream as often as needed. */
  stream<K, V>(topic: string, options: StreamOptions<K, V>): Stream<K, V> {
    const node = this.add({
      kind: 'source',
      name: topic,
      parents: [],
      topic,
      key: options.key as KeySerde<unknown>,
      value: options.value as ValueSerde<unknown>,
    })
    return new Stream(this, { node, output: 'main' }, options)
  }

  /** A topic as a table: the last value of each key by offset; null deletes. */
  table<K, V>(topic: string, options: TableOptions<K, V>): Table<K, V> {
    return tableOf(this.stream(topic, options), options, 'offset')
  }

  /** A topic as a table of which each task that joins it has all rows; null deletes. */
  globalTable<K, V>(topic: string, options: StreamOptions<K, V>): GlobalTable<K, V> {
    return new GlobalTable(this.stream(topic, options), options)
  }

  /** Adds a node; its parents are there already, so the list is in topological order. */
  add(node: NewNode<TopologyNode>): number {
    const id = this.nodes.length
    checkName(node.kind, node.name)
    checkUnbranched(node)
    for (const parent of node.parents) {
      if (this.nodes[parent.node] === undefined) {
        throw streamsError('TOPOLOGY_INVALID', {
          reason: `${node.name} takes its input from a stream of another topology`,
        })
      }
    }
    this.nodes.push({ ...node, id } as TopologyNode)
    return id
  }

  /** Sets how often a step tries a record again. Throws TOPOLOGY_INVALID. */
  retry(node: number, retry: RetryPolicy): void {
    const { name } = this.nodes[node]!
    for (const [field, least] of [
      ['attempts', 1],
      ['firstMs', 0],
      ['maxMs', 0],
    ] as const) {
      const value = retry[field]
      if (Number.isSafeInteger(value) && value >= least) continue
      const reason = `${name}: ${field} of its retries must be a whole number from ${least} on`
      throw streamsError('TOPOLOGY_INVALID', { reason: `${reason}, got ${value}` })
    }
    this.nodes[node] = { ...this.nodes[node]!, retry }
  }

  /** True when a node takes the main output of this one. */
  observed(node: number): boolean {
    return this.nodes.some(({ parents }) =>
      parents.some(edge => edge.node === node && edge.output === 'main'),
    )
  }

  /** A name for a stateless step, which nobody addresses: position in the topology. */
  anonymous(type: string): string {
    return `${type}-${this.nodes.length}`
  }
}

/** The ends by which branches tell their steps from each other's. */
const BRANCHED = /\.(b|copy)\d+$/

function checkUnbranched(node: NewNode<TopologyNode>): void {
  const stores = node.kind === 'operator' ? node.stores.map(({ name }) => name) : []
  for (const name of node.kind === 'exchange' ? [node.name] : stores) {
    if (!BRANCHED.test(name)) continue
    throw streamsError('TOPOLOGY_INVALID', {
      reason: `the name ${name} ends as Millrace's own names of what was added later do (".b1", ".copy1")`,
    })
  }
}

const NAME = /^[a-zA-Z0-9._-]{1,100}$/

export function checkName(what: string, name: string): string {
  if (!NAME.test(name) || name === '.' || name === '..') {
    throw streamsError('TOPOLOGY_INVALID', {
      reason: `the ${what} name ${JSON.stringify(name)} must be 1 to 100 letters, digits, ".", "_" or "-"`,
    })
  }
  return name
}
