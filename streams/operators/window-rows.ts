/**
 * Keeps each record as a row of the window that it names: results that are final when they come,
 * such as alerts.
 *
 * in     records by key; null keys leave by `null-key`, null values by `poison`
 * time   the windows are the records' own; nothing is late for them
 * state  one row a (window start, key, window end), until the watermark is the retention beyond
 *        the window's start
 * out    every record, with its window
 * late   nothing is late here; of two records of one window and key the later to arrive stays
 */
import { sessionKey } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { type Batch, isNull } from '../batch.ts'
import type { Operator, OperatorContext, StoreSpec } from '../operator.ts'
import { type KeySerde, type Timed, timedCodec } from '../serde.ts'
import { WindowExpiry } from '../window-expiry.ts'
import type { Windowed } from '../windows.ts'

export interface WindowRowsSpec {
  readonly name: string
  readonly key: KeySerde<unknown>
  readonly codec: Codec<unknown>
  readonly window: (value: unknown, key: unknown) => WindowBounds
  readonly retentionMs: number
}

export interface WindowBounds {
  readonly windowStart: number
  readonly windowEnd: number
}

export function windowRowsStores(spec: WindowRowsSpec): StoreSpec[] {
  return [{ kind: 'rows', name: spec.name, codec: timedCodec(spec.codec) }]
}

export function windowRows(spec: WindowRowsSpec, context: OperatorContext): Operator {
  const store: RowStore<Timed<unknown>> = context.rowStore(spec.name)
  const { retentionMs } = spec
  const last = (watermarkMs: number) =>
    watermarkMs > retentionMs ? watermarkMs - retentionMs - 1 : Number.NEGATIVE_INFINITY
  const expiry = new WindowExpiry({ store, context, last })
  let placed: (RowKey | Error | undefined)[] = []

  const place = (input: Batch, i: number): RowKey | Error | undefined => {
    const key = input.keys[i]
    const value = input.values[i]
    if (isNull(key) || isNull(value)) return undefined
    try {
      const { windowStart, windowEnd } = spec.window(value, key)
      return sessionKey(windowStart, spec.key.encode(key), windowEnd)
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error))
    }
  }

  return {
    prepare(input) {
      placed = input.keys.map((_, i) => place(input, i))
      return store.prefetch(placed.filter(row => typeof row === 'string'))
    },
    process(input, _port, out) {
      const kept = input.successor<unknown, unknown>({ values: true })
      for (let i = 0; i < input.length; i++) {
        const row = placed[i]
        const key = input.keys[i]
        const value = input.values[i]
        if (row === undefined) out.drop(input, i, isNull(key) ? 'null-key' : 'poison')
        else if (row instanceof Error) out.fail(input, i, row, { reason: 'poison' })
        else {
          store.put(row, { value, timeMs: input.times[i]! })
          const windowed: Windowed<unknown> = { key, ...spec.window(value, key) }
          kept.derive(input, i, windowed, value)
        }
      }
      out.main = kept
    },
    resume(watermarkMs, closing) {
      expiry.resume(watermarkMs, closing)
      return undefined
    },
    prepareClose(watermarkMs) {
      return expiry.due(watermarkMs) ? expiry.advance(watermarkMs) : undefined
    },
  }
}
