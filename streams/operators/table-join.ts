/**
 * Joins two tables by key into a third: inner, left and outer.
 *
 * in     changes of two co-partitioned tables of one key
 * time   a result has the later time of its two rows; no window
 * state  one row a key that has a result; the inputs' rows are read from their own stores
 * out    the changes of the result in a batch, one a key, with the value before
 * late   nothing is late: tables have no late rule
 *
 * Both inputs of a round are in their stores before the first change is joined, so a result
 * never shows one input's part of a round without the other's.
 */
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, result } from '../batch.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import { type KeySerde, type Timed, timedCodec } from '../serde.ts'

export interface TableJoinSpec {
  readonly name: string
  readonly kind: 'inner' | 'left' | 'outer'
  readonly key: KeySerde<unknown>
  /** Stores of the left and the right table. */
  readonly inputs: readonly [string, string]
  readonly joiner: (left: unknown, right: unknown, key: unknown) => unknown
  readonly codec: Codec<unknown>
}

export function tableJoinStores(spec: TableJoinSpec): StoreSpec[] {
  return [{ kind: 'rows', name: spec.name, codec: timedCodec(spec.codec) }]
}

export function tableJoin(spec: TableJoinSpec, context: OperatorContext): Operator {
  const stores = spec.inputs.map(name => context.rowStore<Timed<unknown>>(name))
  const left = stores[0]!
  const right = stores[1]!
  const own: RowStore<Timed<unknown>> = context.rowStore(spec.name)

  function joined(row: RowKey, key: unknown): Timed<unknown> | undefined {
    const l = present(left.get(row))
    const r = present(right.get(row))
    if (spec.kind === 'inner' ? !l || !r : spec.kind === 'left' ? !l : !l && !r) return undefined
    const value = spec.joiner(l?.value ?? null, r?.value ?? null, key)
    return { value, timeMs: Math.max(l?.timeMs ?? 0, r?.timeMs ?? 0) }
  }

  return {
    prepare(input) {
      const rows = new Set(input.keys.map(key => spec.key.encode(key)))
      const reads = [left, right, own].map(store => store.prefetch(rows))
      return reads.some(read => read) ? Promise.all(reads).then(() => {}) : undefined
    },
    process(input, _port, out: Outputs) {
      const changes = new Batch()
      for (let i = 0; i < input.length; i++) {
        const key = input.keys[i]
        const row = spec.key.encode(key)
        const before = own.get(row)
        let next: Timed<unknown> | undefined
        try {
          next = joined(row, key)
        } catch (error) {
          out.fail(input, i, error, { reason: 'poison' })
          continue
        }
        if (next === undefined && before === undefined) continue
        if (next === undefined) own.delete(row)
        else own.put(row, next)
        const timeMs = next?.timeMs ?? input.times[i]!
        changes.change(result(key, next?.value ?? null, timeMs), before?.value)
        changes.trace(input.traces?.get(i))
      }
      out.main = changes
    },
  }
}

/** A row that is there: tables keep deleted ones without a value. */
function present(row: Timed<unknown> | undefined): Timed<unknown> | undefined {
  return row?.value === null ? undefined : row
}
