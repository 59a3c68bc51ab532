/** Visits of users in sessions. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { json, sessions, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, latest, type NamedProof, type Outcome, prove } from '../proof.ts'

export interface Visit {
  user: string
  spend: number
}

interface Total {
  count: number
  spend: number
}

interface Options {
  gapMs?: number
  graceMs?: number
  emit?: 'update' | 'close'
  retentionMs?: number
}

export function visits({
  gapMs = 5,
  graceMs = 10,
  emit,
  retentionMs = 1e12,
}: Options = {}): Topology {
  const topology = new Topology('visits')
  topology
    .stream('visits', { key: textKey(), value: json<Visit>() })
    .groupBy(visit => visit.user, { name: 'by-user', key: textKey('user') })
    .windowedBy(sessions(gapMs, { graceMs }))
    .aggregate<Total>({
      name: 'sessions',
      initial: () => ({ count: 0, spend: 0 }),
      add: (total, visit) => {
        if (visit.spend < 0) throw new RangeError('negative spend')
        return { count: total.count + 1, spend: total.spend + visit.spend }
      },
      merge: (a, b) => ({ count: a.count + b.count, spend: a.spend + b.spend }),
      emit,
      retentionMs,
    })
    .view({
      name: 'sessions',
      description: 'Sessions',
      value: { count: Type.Integer(), spend: Type.Integer() },
    })
    .toStream()
    .map(
      (total, { key, windowStart, windowEnd }) =>
        [
          `${key}[${windowStart},${windowEnd}]` as string,
          (total === null ? null : `${total.count},${total.spend}`) as string,
        ] as const,
    )
    .to('changes', { key: textKey(), value: text() })
  return topology
}

export const rows = async (driver: Outcome) =>
  (await driver.rows('sessions')).map(
    ({ user, windowStart, windowEnd, final, count, spend }) =>
      `${user}[${windowStart},${windowEnd}]=${count},${spend}${final ? '!' : ''}`,
  )
const GAP_MS = 40
const GRACE_MS = 60

interface Results {
  rows: string[]
  changes: string[]
  dead: string[]
}

/** Connected components of the accepted records. */
function oracle(records: readonly Stamped[], watermarkMs: number, emit: 'update' | 'close') {
  const found: { user: string; start: number; end: number; count: number; spend: number }[] = []
  const dead: string[] = []
  const last = new Map<string, (typeof found)[number]>()
  for (const record of records) {
    const { user, spend } = record.value as Visit
    if (record.timeMs + GRACE_MS < record.streamTimeMs) {
      dead.push(deadLetter('late', record))
      continue
    }
    let session = last.get(user)
    if (session === undefined || session.end + GAP_MS < record.timeMs) {
      session = { user, start: record.timeMs, end: 0, count: 0, spend: 0 }
      last.set(user, session)
      found.push(session)
    }
    session.end = record.timeMs
    session.count++
    session.spend += spend
  }
  const isFinal = ({ end }: { end: number }) => end + GAP_MS + GRACE_MS < watermarkMs
  const line = (s: (typeof found)[number]) => `${s.user}[${s.start},${s.end}]=${s.count},${s.spend}`
  const emitted = emit === 'update' ? found : found.filter(isFinal)
  return {
    rows: found.map(s => line(s) + (isFinal(s) ? '!' : '')).sort(),
    changes: emitted.map(s => `${line(s)}@${s.end}`).sort(),
    dead: dead.sort(),
  }
}

export const sessionProofs: readonly NamedProof[] = (['update', 'close'] as const).map(emit => ({
  name: `sessions, emit on ${emit}`,
  proof: prove<Results>({
    topology: () => visits({ gapMs: GAP_MS, graceMs: GRACE_MS, emit }),
    partitions: 3,
    inputs: random =>
      disordered(random, {
        topics: ['visits'],
        partitions: 3,
        count: 300,
        stepMs: 9,
        delayMs: 70,
        record: (r, { i }) => ({
          key: `k${i}`,
          value: { user: r.pick(['ann', 'bob', 'eve', 'joe', 'zoë']), spend: r.below(9) },
        }),
        end: { timeMs: 2_750, value: { user: 'end', spend: 0 } },
      }),
    results: async driver => ({
      rows: (await rows(driver)).sort(),
      changes: emit === 'update' ? await latest(driver, 'changes') : await withTimes(driver),
      dead: await deadLetters(driver),
    }),
    oracle: (records, watermarkMs) => oracle(records, watermarkMs, emit),
    reaches: ({ rows, dead }) => {
      assert(rows.length > 50)
      assert(rows.filter(row => !row.endsWith('!')).length > 3)
      assert(dead.length > 2)
    },
  }),
}))

/** Every result, so that a second one of a session would show. */
async function withTimes(driver: Outcome): Promise<string[]> {
  const results = await driver.output('changes', { key: textKey(), value: text() })
  return results.map(({ key, value, timeMs }) => `${key}=${value}@${timeMs}`).sort()
}
