/**
 * The steps that chains are made of: each as it is put into a topology, and as a plain function
 * from stamped rows to stamped rows by the laws of docs/TIME.md, so that functions chain as
 * steps do.
 */
import { json, type Stream, sessions, textKey, tumbling } from '../../streams/index.ts'

export interface Item {
  /** Key at this stage. */
  readonly g: string
  readonly n: number
  /** Time of the record that carries it. */
  readonly t: number
  readonly id?: string
}

export interface Row {
  readonly key: string
  readonly item: Item
  readonly timeMs: number
  readonly streamTimeMs: number
}

export type StageName = 'first' | 'second'

export interface StageInput {
  readonly name: StageName
  /** By key, in the order of arrival within each source partition. */
  readonly rows: readonly Row[]
  readonly other: readonly Row[]
  readonly watermarkMs: number
  /** The rows are the last of their key only; a step sees updates before them. */
  readonly updates: boolean
}

export interface StageOutput {
  readonly rows: Row[]
  readonly late: number
  readonly duplicate: number
}

export interface Stage {
  readonly name: StageName
  readonly input: Stream<string, Item>
  readonly other: () => Stream<string, Item>
  readonly updates: boolean
}

export interface Step {
  readonly name: string
  readonly build: (stage: Stage) => Stream<string, Item>
  readonly oracle: (input: StageInput) => StageOutput
  /** How far its forwarded watermark stays behind. */
  readonly holdMs: number
  readonly joins?: true
  /** Emits on update: nothing that decides by event time is allowed below. */
  readonly updates?: true
  /** Refused below updates. */
  readonly timeDependent?: true
  /** What of the results does not depend on arrival, when they are the chain's last. */
  readonly shows: 'rows' | 'ids' | 'latest'
}

export const ITEMS = { key: textKey(), value: json<Item>() }

const WINDOW_MS = 50
/** The second step waits for less, so that it closes too early if the first one holds nothing. */
const GRACE_MS = { first: 60, second: 10 } as const
const GAP_MS = 40
/** Also of copies made out of results: see `bucket` in the test. */
export const TTL_MS = { first: 100, second: 450 } as const
const BEFORE_MS = 20
const AFTER_MS = 40
/** When the last value of each key is told: after all records but those that end a run. */
export const LAST_MS = 2_800

const startOf = (timeMs: number) => timeMs - (timeMs % WINDOW_MS)
const row = (item: Item, timeMs: number, streamTimeMs = timeMs): Row => ({
  key: item.g,
  item,
  timeMs,
  streamTimeMs,
})
const sum = (a: Item | null, b: Item): Item => ({
  g: b.g,
  n: (a?.n ?? 0) + b.n,
  t: Math.max(a?.t ?? 0, b.t),
})
/** Does not mind to see what an aggregate was before. */
const most = (a: Item | null, b: Item): Item => ({
  g: b.g,
  n: Math.max(a?.n ?? 0, b.n),
  t: Math.max(a?.t ?? 0, b.t),
})
const pair = (left: Item, right: Item | null): Item => ({
  g: left.g,
  n: left.n * 100 + (right?.n ?? 0),
  t: Math.max(left.t, right?.t ?? 0),
})

function byKey(rows: readonly Row[], id = (row: Row) => row.key): Map<string, Row[]> {
  const groups = new Map<string, Row[]>()
  for (const row of rows) groups.set(id(row), [...(groups.get(id(row)) ?? []), row])
  return groups
}

function folded(rows: readonly Row[], add = sum): Item {
  return rows.reduce<Item | null>((item, row) => add(item, row.item), null)!
}

/** What a test of lateness leaves, and how much it takes. */
function onTime(rows: readonly Row[], isLate: (row: Row) => boolean) {
  const taken = rows.filter(row => !isLate(row))
  return { taken, late: rows.length - taken.length, duplicate: 0 }
}

const deduplicate: Step = {
  name: 'deduplicate',
  timeDependent: true,
  holdMs: 0,
  shows: 'ids',
  build: ({ name, input }) =>
    input.deduplicate({
      name: `${name}-seen`,
      id: item => item.id,
      ttlMs: TTL_MS[name],
    }),
  oracle: ({ rows, name }) => {
    const ttlMs = TTL_MS[name]
    const passed: Row[] = []
    const last = new Map<string, number>()
    for (const one of [...rows].sort((a, b) => a.streamTimeMs - b.streamTimeMs)) {
      const { id } = one.item
      if (id !== undefined) {
        if (one.streamTimeMs - (last.get(id) ?? Number.NEGATIVE_INFINITY) <= ttlMs) continue
        last.set(id, one.streamTimeMs)
      }
      passed.push(one)
    }
    return { rows: passed, late: 0, duplicate: rows.length - passed.length }
  },
}

const windows: Step = {
  name: 'windows',
  timeDependent: true,
  holdMs: WINDOW_MS + GRACE_MS.first,
  shows: 'rows',
  build: ({ name, input }) =>
    input
      .groupByKey({ name: `${name}-unused`, key: textKey() })
      .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS[name] }))
      .aggregate<Item | null>({
        name: `${name}-windows`,
        initial: () => null,
        add: sum,
        emit: 'close',
      })
      .toStream()
      .map((item, { key }): [string, Item] => [key, item!]),
  oracle: ({ name, rows, watermarkMs }) => {
    const closesMs = ({ timeMs }: Row) => startOf(timeMs) + WINDOW_MS + GRACE_MS[name]
    const { taken, ...dropped } = onTime(rows, one => closesMs(one) <= one.streamTimeMs)
    const closed = taken.filter(one => closesMs(one) <= watermarkMs)
    const groups = byKey(closed, ({ key, timeMs }) => `${startOf(timeMs)} ${key}`)
    const results = [...groups.values()].map(group =>
      row(folded(group), Math.max(...group.map(({ timeMs }) => timeMs))),
    )
    return { rows: results, ...dropped }
  },
}

const sessionWindows: Step = {
  name: 'sessions',
  timeDependent: true,
  holdMs: GAP_MS + GRACE_MS.first,
  shows: 'rows',
  build: ({ name, input }) =>
    input
      .groupByKey({ name: `${name}-unused`, key: textKey() })
      .windowedBy(sessions(GAP_MS, { graceMs: GRACE_MS[name] }))
      .aggregate<Item | null>({
        name: `${name}-sessions`,
        initial: () => null,
        add: sum,
        merge: (a, b) => sum(a, b!),
        emit: 'close',
      })
      .toStream()
      .map((item, { key }): [string, Item] => [key, item!]),
  oracle: ({ name, rows, watermarkMs }) => {
    const { taken, ...dropped } = onTime(
      rows,
      one => one.timeMs + GRACE_MS[name] < one.streamTimeMs,
    )
    const found: Row[][] = []
    for (const group of byKey(taken).values()) {
      group.sort((a, b) => a.timeMs - b.timeMs)
      group.forEach((one, i) => {
        if (i > 0 && one.timeMs - group[i - 1]!.timeMs <= GAP_MS) found.at(-1)!.push(one)
        else found.push([one])
      })
    }
    const results = found.map(group => row(folded(group), group.at(-1)!.timeMs))
    const closed = results.filter(({ timeMs }) => timeMs + GAP_MS + GRACE_MS[name] < watermarkMs)
    return { rows: closed, ...dropped }
  },
}

const reach = (name: StageName) => ({
  beforeMs: BEFORE_MS,
  afterMs: AFTER_MS,
  graceMs: GRACE_MS[name],
})
const SIDES = { left: ITEMS, right: ITEMS }

/** Law 9, with loops over all pairs. */
function joined({ name, rows, other, watermarkMs }: StageInput, outer: boolean): StageOutput {
  const keptMs = ({ timeMs }: Row, reachMs: number) => timeMs + reachMs + GRACE_MS[name]
  const left = onTime(rows, one => keptMs(one, AFTER_MS) < one.streamTimeMs)
  const right = onTime(other, one => keptMs(one, BEFORE_MS) < one.streamTimeMs)
  const rights = byKey(right.taken)
  const results: Row[] = []
  for (const l of left.taken) {
    const partners = (rights.get(l.key) ?? []).filter(r => {
      const near = r.timeMs >= l.timeMs - BEFORE_MS && r.timeMs <= l.timeMs + AFTER_MS
      const bound = Math.max(l.streamTimeMs, r.streamTimeMs)
      return near && Math.min(keptMs(l, AFTER_MS), keptMs(r, BEFORE_MS)) >= bound
    })
    for (const r of partners) {
      const streamTimeMs = Math.max(l.streamTimeMs, r.streamTimeMs)
      results.push(row(pair(l.item, r.item), Math.max(l.timeMs, r.timeMs), streamTimeMs))
    }
    const dropped = keptMs(l, AFTER_MS) < watermarkMs
    if (outer && dropped && partners.length === 0) results.push(row(pair(l.item, null), l.timeMs))
  }
  return { rows: results, late: left.late + right.late, duplicate: 0 }
}

const join: Step = {
  name: 'join',
  timeDependent: true,
  joins: true,
  holdMs: 0,
  shows: 'rows',
  build: ({ name, input, other }) =>
    input.join(other(), pair, { name: `${name}-join`, ...reach(name), ...SIDES }),
  oracle: input => joined(input, false),
}

const leftJoin: Step = {
  name: 'left join',
  timeDependent: true,
  joins: true,
  holdMs: AFTER_MS + GRACE_MS.first,
  shows: 'rows',
  build: ({ name, input, other }) =>
    input.leftJoin(other(), pair, { name: `${name}-left-join`, ...reach(name), ...SIDES }),
  oracle: input => joined(input, true),
}

const timerRow = (key: string, atMs: number) => `${key}@${atMs}`
const dueAfter = (name: StageName) => (timeMs: number) =>
  startOf(timeMs) + WINDOW_MS + GRACE_MS[name]

/** Sums by key and span of time, told by a timer; odd records also pass as they are. */
function withTimers({ name, input }: Stage): Stream<string, Item> {
  const dueMs = dueAfter(name)
  return input.process({
    name: `${name}-process`,
    key: textKey(),
    stores: { sums: { key: textKey(), codec: json<Item>() } },
    prefetch: ({ key, timeMs }, want) => want('sums', timerRow(key, dueMs(timeMs))),
    prefetchTimer: ({ key, atMs }, want) => want('sums', timerRow(key, atMs)),
    results: ITEMS,
    keepsKeys: true,
    create: context => ({
      process({ key, value, timeMs, streamTimeMs }) {
        const atMs = dueMs(timeMs)
        if (atMs <= streamTimeMs) return context.drop('late')
        if (value.n % 2 === 1) context.forward(key, value)
        const sums = context.store('sums')
        sums.put(timerRow(key, atMs), sum(sums.get(timerRow(key, atMs)) ?? null, value))
        context.schedule({ clock: 'event', atMs, key, name: 'tell' })
      },
      onTimer({ key, atMs }) {
        const sums = context.store('sums')
        context.forward(key, { ...sums.get(timerRow(key, atMs))!, t: atMs })
        sums.delete(timerRow(key, atMs))
      },
    }),
  })
}

/** The same below updates: only what they come to may be told. */
function withLastTimer({ name, input }: Stage): Stream<string, Item> {
  return input.process({
    name: `${name}-process`,
    key: textKey(),
    stores: { most: { key: textKey(), codec: json<Item>() } },
    results: ITEMS,
    keepsKeys: true,
    create: context => ({
      process({ key, value }) {
        if (value.t >= LAST_MS) return
        const rows = context.store('most')
        rows.put(key, most(rows.get(key) ?? null, value))
        context.schedule({ clock: 'event', atMs: LAST_MS, key, name: 'last' })
      },
      onTimer({ key }) {
        context.forward(key, context.store('most').get(key)!)
      },
    }),
  })
}

const process: Step = {
  name: 'process',
  holdMs: 0,
  shows: 'rows',
  build: stage => (stage.updates ? withLastTimer(stage) : withTimers(stage)),
  oracle: ({ name, rows, watermarkMs, updates }) => {
    const dueMs = dueAfter(name)
    if (updates) {
      const groups = byKey(rows.filter(({ item }) => item.t < LAST_MS))
      const last = [...groups.values()].map(group => row(folded(group, most), LAST_MS))
      return { rows: last, late: 0, duplicate: 0 }
    }
    const { taken, ...dropped } = onTime(rows, one => dueMs(one.timeMs) <= one.streamTimeMs)
    const due = taken.filter(({ timeMs }) => dueMs(timeMs) <= watermarkMs)
    const groups = byKey(due, ({ key, timeMs }) => timerRow(key, dueMs(timeMs)))
    const told = [...groups.values()].map(group => {
      const atMs = dueMs(group[0]!.timeMs)
      return row({ ...folded(group), t: atMs }, atMs)
    })
    return { rows: [...taken.filter(({ item }) => item.n % 2 === 1), ...told], ...dropped }
  },
}

const aggregate: Step = {
  name: 'aggregate',
  updates: true,
  holdMs: 0,
  shows: 'latest',
  build: ({ name, input, updates }) =>
    input
      .groupByKey({ name: `${name}-unused`, key: textKey() })
      .aggregate<Item | null>({
        name: `${name}-aggregate`,
        initial: () => null,
        add: updates ? most : sum,
      })
      .toStream()
      .mapValues(item => item!),
  oracle: ({ rows, updates }) => {
    const results = [...byKey(rows).values()].map(group =>
      row(folded(group, updates ? most : sum), Math.max(...group.map(({ timeMs }) => timeMs))),
    )
    return { rows: results, late: 0, duplicate: 0 }
  },
}

export const STEPS: readonly Step[] = [
  deduplicate,
  windows,
  sessionWindows,
  join,
  leftJoin,
  process,
  aggregate,
]
