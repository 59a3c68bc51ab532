/**
 * Ranks the items of each key and window by score: the exact best K.
 *
 * in     records by key; null keys leave by `null-key`, null values by `poison`
 * time   event time; windows `[start, end)`; closes when the watermark reaches end + grace
 * state  one row a (window, key, item) until the window closes: its aggregate; one row a
 *        (window, key, rank), kept for the retention: item and aggregate
 * out    on update: the ranks that changed; on close: each rank once, final
 * late   end + grace ≤ the record's own stream time (or the watermark, after idleness), per window
 *
 * Items that are not ranked are all behind the last rank. So the new ranks are the best of the
 * old ones and of the items that changed, unless the last rank has become worse than it was:
 * then the items of that key and window are read again.
 */
import type { Span } from '@opentelemetry/api'
import {
  afterPrefix,
  decodeText,
  encodeText,
  keyField,
  rowKeyOfWindow,
  windowKey,
  windowStartOf,
} from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull, result } from '../batch.ts'
import { advanceInTurn, type Closing } from '../closing.ts'
import type { Operator, OperatorContext, Outputs, SideReason, StoreSpec } from '../operator.ts'
import { type Ranked, rankedKey, rankedRow } from '../ranked-key.ts'
import { detach, type KeySerde, type Timed, timedCodec } from '../serde.ts'
import { WindowEnds } from '../window-ends.ts'
import { WindowExpiry } from '../window-expiry.ts'
import {
  firstWindowStart,
  lastWindowEnded,
  type TimeWindows,
  type Windowed,
  windowed,
} from '../windows.ts'

export interface TopKSpec {
  readonly name: string
  readonly windows: TimeWindows
  readonly key: KeySerde<unknown>
  readonly k: number
  readonly item: (value: unknown, key: unknown) => string
  readonly initial: () => unknown
  readonly add: (aggregate: unknown, value: unknown, key: unknown) => unknown
  readonly score: (aggregate: unknown) => number
  readonly codec: Codec<unknown>
  readonly emit: 'update' | 'close'
  readonly retentionMs: number
}

/** What a rank shows. */
export interface TopEntry<A> {
  readonly item: string
  readonly value: A
}

/** `itemLength: uint32 big-endian, item: UTF-8, value: bytes of the inner codec`, version 1. */
export function topEntryCodec(inner: Codec<unknown>): Codec<TopEntry<unknown>> {
  return {
    mutable: inner.mutable,
    encode({ item, value }) {
      const text = Buffer.from(item)
      const head = Buffer.allocUnsafe(4)
      head.writeUInt32BE(text.length)
      return Buffer.concat([head, text, inner.encode(value)])
    },
    decode(bytes) {
      const end = 4 + bytes.readUInt32BE(0)
      if (end > bytes.length) throw new RangeError('a ranked item ends early')
      return { item: bytes.toString('utf8', 4, end), value: inner.decode(bytes.subarray(end)) }
    },
  }
}

const itemStore = (spec: TopKSpec) => `${spec.name}-items`

export function topKStores(spec: TopKSpec): StoreSpec[] {
  const entry = topEntryCodec(spec.codec) as Codec<unknown>
  return [
    { kind: 'rows', name: spec.name, codec: timedCodec(entry) },
    { kind: 'rows', name: itemStore(spec), codec: timedCodec(spec.codec) },
  ]
}

export function topK(spec: TopKSpec, context: OperatorContext): Operator {
  return new TopK(spec, context)
}

/** An item with what it is ranked by; `item` is encoded, so that it orders as its text. */
interface Contender {
  readonly item: RowKey
  readonly score: number
  readonly value: unknown
  readonly timeMs: number
}

const byRank = (a: Contender, b: Contender) => b.score - a.score || (a.item < b.item ? -1 : 1)

/** The ranking of one key and window, as a batch finds and changes it. */
interface Board {
  readonly key: unknown
  readonly start: number
  /** Its rows in the item store begin with this. */
  readonly prefix: RowKey
  /** Encoded key. */
  readonly group: RowKey
  /** Changed items; undefined where one is taken out. */
  readonly changed: Map<RowKey, Contender | undefined>
  before: readonly Contender[]
  after: readonly Contender[]
  /** Its last traced record, in the batch at hand. */
  record: number
}

interface Placement {
  readonly record: number
  readonly board: Board
  readonly item: RowKey
}

interface Drop {
  readonly record: number
  readonly reason: SideReason
  readonly detail: string
  readonly error?: unknown
}

class TopK implements Operator {
  readonly #spec: TopKSpec
  readonly #context: OperatorContext
  readonly #ranks: RowStore<Timed<TopEntry<unknown>>>
  readonly #items: RowStore<Timed<unknown>>
  readonly #rankedKey: KeySerde<Ranked<unknown>>
  readonly #entryCodec: Codec<TopEntry<unknown>>
  #boards = new Map<RowKey, Board>()
  #drops: Drop[] = []
  /** Records that one window has dropped and another has not, or that have their letter. */
  #kept = new Set<number>()
  readonly #ends: WindowEnds
  readonly #expiry: WindowExpiry

  constructor(spec: TopKSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#ranks = context.rowStore(spec.name)
    this.#items = context.rowStore(itemStore(spec))
    this.#rankedKey = rankedKey(spec.key)
    this.#entryCodec = topEntryCodec(spec.codec)
    const { windows, retentionMs } = spec
    const collects = spec.emit === 'close'
    this.#ends = new WindowEnds({ store: this.#ranks, context, windows, retentionMs, collects })
    const last = (watermarkMs: number) => lastWindowEnded(windows, watermarkMs, windows.graceMs)
    this.#expiry = new WindowExpiry({ store: this.#items, context, last })
  }

  resume(watermarkMs: number, closing?: Closing): undefined {
    this.#ends.resume(watermarkMs, closing)
    this.#expiry.resume(watermarkMs, closing)
  }

  /** Reads items and ranks, and works out the new ranks, for which it may have to read again. */
  prepare(input: Batch): Promise<void> | undefined {
    this.#boards = new Map()
    this.#drops = []
    const placements: Placement[] = []
    for (let i = 0; i < input.length; i++) this.#place(input, i, placements)
    const items = this.#items.prefetch(placements.map(({ board, item }) => board.prefix + item))
    const ranks = this.#ranks.prefetch(this.#rankRows())
    if (items === undefined && ranks === undefined) return this.#plan(input, placements)
    return Promise.all([items, ranks]).then(() => this.#plan(input, placements))
  }

  #place(input: Batch, record: number, placements: Placement[]): void {
    const { windows, item: itemOf, name } = this.#spec
    const key = input.keys[record]
    const value = input.values[record]
    const drop = (reason: SideReason, detail: string, error?: unknown) =>
      this.#drops.push({ record, reason, detail, error })
    if (isNull(key)) {
      drop('null-key', '')
      return
    }
    if (isNull(value)) {
      drop('poison', 'a null value adds nothing to a ranking')
      return
    }
    let item: RowKey
    try {
      item = encodeText(itemOf(value, key))
    } catch (error) {
      drop('poison', '', error)
      return
    }
    const time = input.times[record]!
    const bound = Math.max(input.streamTimes[record]!, this.#context.watermarkMs())
    const group = this.#spec.key.encode(key)
    for (let s = firstWindowStart(windows, time); s <= time; s += windows.advanceMs) {
      const end = s + windows.sizeMs
      if (end + windows.graceMs <= bound) drop('late', `window [${s}, ${end}) of ${name} is closed`)
      else placements.push({ record, board: this.#board(key, group, s), item })
    }
  }

  #board(key: unknown, group: RowKey, start: number): Board {
    const prefix = windowKey(start, keyField(group))
    let board = this.#boards.get(prefix)
    if (board === undefined) {
      board = { key, start, prefix, group, changed: new Map(), before: [], after: [], record: -1 }
      this.#boards.set(prefix, board)
    }
    return board
  }

  #rankRow({ start, group }: Board, rank: number): RowKey {
    return windowKey(start, rankedRow(group, rank))
  }

  *#rankRows(): Generator<RowKey> {
    for (const board of this.#boards.values()) {
      for (let rank = 1; rank <= this.#spec.k; rank++) yield this.#rankRow(board, rank)
    }
  }

  #plan(input: Batch, placements: readonly Placement[]): Promise<void> | undefined {
    for (const board of this.#boards.values()) board.before = this.#ranked(board)
    const failed = new Set<Placement>()
    for (const placement of placements) {
      try {
        this.#add(input, placement)
      } catch (error) {
        const reason = error instanceof RangeError ? 'overflow' : 'poison'
        this.#drops.push({ record: placement.record, reason, detail: '', error })
        failed.add(placement)
      }
    }
    const kept = this.#drops.length > 0 ? placements.filter(each => !failed.has(each)) : []
    this.#kept = new Set(kept.map(({ record }) => record))
    let unsure: Board[] | undefined
    for (const board of this.#boards.values()) {
      if (!this.#rank(board)) (unsure ??= []).push(board)
    }
    return unsure && this.#rankAll(unsure)
  }

  #ranked(board: Board): Contender[] {
    const contenders: Contender[] = []
    for (let rank = 1; rank <= this.#spec.k; rank++) {
      const row = this.#ranks.get(this.#rankRow(board, rank))
      if (row === undefined) break
      // Detached: the item's aggregate may be the same object, and change in place.
      const { item, value } = detach(this.#entryCodec, row.value)
      contenders.push(this.#contender(encodeText(item), { value, timeMs: row.timeMs }))
    }
    return contenders
  }

  #contender(item: RowKey, { value, timeMs }: Timed<unknown>): Contender {
    const score = this.#spec.score(value)
    if (!Number.isFinite(score)) throw new TypeError(`the score ${score} ranks nothing`)
    return { item, score, value, timeMs }
  }

  #add(input: Batch, { record, board, item }: Placement): void {
    const { initial, add } = this.#spec
    const before = board.changed.has(item)
      ? board.changed.get(item)
      : this.#items.get(board.prefix + item)
    const current = before === undefined ? initial() : before.value
    const value = add(current, input.values[record], input.keys[record])
    const timeMs = Math.max(before?.timeMs ?? 0, input.times[record]!)
    const contender = isNull(value) ? undefined : this.#contender(item, { value, timeMs })
    board.changed.set(item, contender)
    if (input.traces?.has(record)) board.record = record
  }

  /** False when an item that is not ranked may belong among the ranks now. */
  #rank(board: Board): boolean {
    const { k } = this.#spec
    const { before, changed } = board
    const contenders = before.filter(({ item }) => !changed.has(item))
    for (const contender of changed.values()) {
      if (contender !== undefined) contenders.push(contender)
    }
    board.after = contenders.sort(byRank).slice(0, k)
    if (before.length < k) return true
    const last = board.after[k - 1]
    const lastBefore = before[k - 1]!
    if (last === undefined) return false
    if (last.item === lastBefore.item) return last.score >= lastBefore.score
    return byRank(last, lastBefore) < 0
  }

  /** Ranks all items of some keys and windows anew. */
  async #rankAll(boards: readonly Board[]): Promise<void> {
    const { k } = this.#spec
    for (const board of boards) {
      const { prefix, changed } = board
      let best = [...changed.values()].filter(contender => contender !== undefined)
      for await (const rows of this.#items.scan({ gte: prefix, lt: afterPrefix(prefix) })) {
        for (const { key, value } of rows) {
          const item = key.slice(prefix.length)
          if (!changed.has(item)) best.push(this.#contender(item, value))
        }
        best = best.sort(byRank).slice(0, k)
      }
      board.after = best.sort(byRank).slice(0, k)
    }
  }

  process(input: Batch, _port: number, out: Outputs): void {
    for (const { record, reason, detail, error } of this.#drops) {
      const isPart = this.#kept.has(record)
      if (error !== undefined) out.fail(input, record, error, { reason, isPart })
      else if (isPart) out.dropPart(input, record, reason, detail)
      else out.drop(input, record, reason, detail)
      this.#kept.add(record)
    }
    const changes = this.#spec.emit === 'update' && this.#context.observed ? new Batch() : undefined
    for (const board of this.#boards.values()) {
      for (const [item, contender] of board.changed) {
        if (contender === undefined) this.#items.delete(board.prefix + item)
        else {
          const { value, timeMs } = contender
          this.#items.put(board.prefix + item, { value, timeMs })
        }
      }
      this.#write(board, changes, input.traces?.get(board.record))
    }
    out.main = changes
  }

  /** Writes the ranks that changed. */
  #write(board: Board, changes: Batch | undefined, span: Span | undefined): void {
    const { before, after, changed } = board
    for (let i = 0; i < Math.max(before.length, after.length); i++) {
      const old = before[i]
      const now = after[i]
      if (now !== undefined && old?.item === now.item && !changed.has(now.item)) continue
      const row = this.#rankRow(board, i + 1)
      if (now === undefined) this.#ranks.delete(row)
      else this.#ranks.put(row, { value: this.#entry(now), timeMs: now.timeMs })
      if (changes === undefined) continue
      const entry = now === undefined ? null : this.#entry(now)
      const { timeMs } = (now ?? old)!
      changes.change(result(this.#rankOf(row), entry, timeMs), old && this.#entry(old))
      changes.trace(span)
    }
  }

  /** Apart from the item's own row, which may change in place while it is ranked nowhere. */
  #entry({ item, value }: Contender): TopEntry<unknown> {
    return { item: decodeText(item), value: detach(this.#spec.codec, value) }
  }

  #rankOf(row: RowKey): Windowed<Ranked<unknown>> {
    const rank = this.#rankedKey.decode(rowKeyOfWindow(row))
    return windowed(rank, windowStartOf(row), this.#spec.windows.sizeMs)
  }

  prepareClose(watermarkMs: number, from?: Closing): Promise<Closing | undefined> | undefined {
    return advanceInTurn([this.#ends, this.#expiry], watermarkMs, from)
  }

  close(_watermarkMs: number, out: Outputs): void {
    out.main = this.#ends.results(row => this.#rankOf(row))
  }

  forwardedWatermark(watermarkMs: number): number {
    const { emit, windows } = this.#spec
    return emit === 'update' ? watermarkMs : watermarkMs - windows.sizeMs - windows.graceMs
  }
}
