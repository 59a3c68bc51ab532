/** `Table`: the rows of a stateful step and their changes; and the declaration of a view. */

import type { TObject, TProperties } from 'typebox'
import { Type } from 'typebox'
import { type ForeignKeyOptions, joinForeign } from './foreign-key.ts'
import type { Joiner } from './join.ts'
import type { SideReason } from './operator.ts'
import { map } from './operators/map.ts'
import type { RetryPolicy } from './retries.ts'
import type { KeySerde, ValueSerde } from './serde.ts'
import { Stream, stateless } from './stream.ts'
import { joinTables, type TableJoinRequest } from './tables.ts'
import type { Edge, Topology } from './topology.ts'
import type { VersionedView, ViewKind } from './views.ts'

/** The store behind a table: what a view of it reads. */
export interface TableStore {
  readonly store: string
  readonly key: KeySerde<unknown>
  readonly stored: ViewKind
  readonly windowSizeMs?: number
  readonly gapMs?: number
  readonly graceMs?: number
  /** Rows are values alone, without the time each stands for. */
  readonly untimed?: true
  /** What is kept beside the newest values. */
  readonly versioned?: VersionedView
  /** Where its rows come from, when each is one record: what it has been at any time. */
  readonly versions?: { readonly edge: Edge; readonly value: ValueSerde<unknown> }
}

export interface ViewOptions<K, V, P extends TProperties> {
  readonly name: string
  readonly description: string
  /** TypeBox properties of the value fields. */
  readonly value: P
  readonly units?: Readonly<Record<string, string>>
  /** Value fields of a row; the stored value itself unless given. Undefined hides the row. */
  readonly row?: (value: V, key: K) => Record<string, unknown> | undefined
}

type JoinTableOptions<V> = TableJoinRequest<never, never, never, V>['options']

export class Table<K, V> {
  readonly topology: Topology
  readonly edge: Edge
  readonly source: TableStore

  constructor(topology: Topology, edge: Edge, source: TableStore) {
    this.topology = topology
    this.edge = edge
    this.source = source
  }

  /** The changes of the table as records: its newest values. */
  toStream(): Stream<K, V> {
    const values = new Stream<K, V>(this.topology, this.edge, undefined, true)
    return values.step(
      stateless('to-stream', context => map({}, context)),
      true,
    )
  }

  /** A row for each key that has one in both tables. */
  join<R, V2>(right: Table<K, R>, joiner: Joiner<K, V, R, V2>, options: JoinTableOptions<V2>) {
    return joinTables({ kind: 'inner', left: this, right, joiner, options })
  }

  /** A row for each key of this table, null where the other has none. */
  leftJoin<R, V2>(
    right: Table<K, R>,
    joiner: Joiner<K, V, R | null, V2>,
    options: JoinTableOptions<V2>,
  ) {
    return joinTables({ kind: 'left', left: this, right, joiner: joiner as never, options })
  }

  /** A row for each key of either table. */
  outerJoin<R, V2>(
    right: Table<K, R>,
    joiner: Joiner<K, V | null, R | null, V2>,
    options: JoinTableOptions<V2>,
  ) {
    return joinTables({ kind: 'outer', left: this, right, joiner: joiner as never, options })
  }

  /** A row for each row of this table that refers to one of the other; see `ForeignKeyOptions`. */
  joinForeign<F, R, V2>(
    right: Table<F, R>,
    joiner: Joiner<K, V, R, V2>,
    options: ForeignKeyOptions<K, V, F, V2>,
  ): Table<K, V2> {
    return joinForeign({ kind: 'inner', left: this, right, joiner, options })
  }

  /** `joinForeign` with a row for each row of this table, with null where it refers to none. */
  leftJoinForeign<F, R, V2>(
    right: Table<F, R>,
    joiner: Joiner<K, V, R | null, V2>,
    options: ForeignKeyOptions<K, V, F, V2>,
  ): Table<K, V2> {
    return joinForeign({ kind: 'left', left: this, right, joiner: joiner as never, options })
  }

  /** Records the step took out of the flow: late, without a key, a duplicate. */
  side(reason: SideReason): Stream<unknown, unknown> {
    return new Stream(this.topology, { node: this.edge.node, output: reason }, undefined, true)
  }

  /** How often the step tries a record again that failed with a retriable error. */
  retry(policy: RetryPolicy): this {
    this.topology.retry(this.edge.node, policy)
    return this
  }

  /** Serves the table: routes, socket feed and dashboard panel come from this declaration. */
  view<P extends TProperties>(options: ViewOptions<K, V, P>): this {
    const { source } = this
    this.topology.views.push({
      declaration: {
        name: options.name,
        kind: source.stored,
        description: options.description,
        key: source.key.fields.map(name => ({
          name,
          type: source.key.integers?.includes(name) ? ('integer' as const) : ('string' as const),
        })),
        value: Type.Object(options.value) as TObject,
        units: options.units ?? {},
        ...(source.versioned && { versioned: source.versioned }),
      },
      node: this.edge.node,
      store: source.store,
      key: source.key,
      windowSizeMs: source.windowSizeMs,
      gapMs: source.gapMs,
      graceMs: source.graceMs ?? 0,
      untimed: source.untimed ?? false,
      keyFields: source.key.toFields,
      project: (options.row ?? (value => value)) as ViewProjection,
    })
    return this
  }
}

type ViewProjection = (value: unknown, key: unknown) => Record<string, unknown> | undefined
