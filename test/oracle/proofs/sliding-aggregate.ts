/** Readings of sensors in sliding windows, in the order of their values. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { json, sliding, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, latest, type NamedProof, type Outcome, prove } from '../proof.ts'

export interface Reading {
  sensor: string
  value: number
}

interface Options {
  differenceMs?: number
  graceMs?: number
  emit?: 'update' | 'close'
  retentionMs?: number
}

/** Windows show their values in the order in which they were added. */
export function readings(options: Options = {}): Topology {
  const { differenceMs = 5000, graceMs = 20_000, emit, retentionMs = 1e12 } = options
  const topology = new Topology('readings')
  topology
    .stream('readings', { key: textKey(), value: json<Reading>() })
    .groupBy(reading => reading.sensor, { name: 'by-sensor', key: textKey('sensor') })
    .windowedBy(sliding(differenceMs, { graceMs }))
    .aggregate<number[]>({
      name: 'windows',
      initial: () => [],
      add: (values, { value }) => {
        if (values.includes(13)) throw new RangeError('nothing follows 13')
        return [...values, value]
      },
      emit,
      retentionMs,
    })
    .view({
      name: 'windows',
      description: 'Windows',
      value: { values: Type.String() },
      row: values => ({ values: values.join() }),
    })
    .toStream()
    .map(
      (values, w) =>
        [`${w.key}[${w.windowStart},${w.windowEnd})` as string, values.join()] as const,
    )
    .to('changes', { key: textKey(), value: text() })
  return topology
}

export const rows = async (driver: Outcome) =>
  (await driver.rows('windows')).map(
    ({ sensor, windowStart, windowEnd, final, values }) =>
      `${sensor}[${windowStart},${windowEnd})=${values}${final ? '!' : ''}`,
  )
const DIFFERENCE_MS = 40
const GRACE_MS = 30

interface Results {
  rows: string[]
  changes: string[]
  dead: string[]
}

/** Every time as the start of a window, kept where a record ends or precedes it. */
function oracle(records: readonly Stamped[], watermarkMs: number, emit: 'update' | 'close') {
  const found: { line: string; timeMs: number; final: boolean }[] = []
  const end = (start: number) => start + DIFFERENCE_MS + 1
  const takes = (record: Stamped, start: number) => end(start) + GRACE_MS > record.streamTimeMs
  const own = (record: Stamped) => Math.max(record.timeMs - DIFFERENCE_MS, 0)
  const counts = (record: Stamped) => takes(record, record.timeMs)
  const sensor = (record: Stamped) => (record.value as Reading).sensor
  for (const name of new Set(records.map(sensor))) {
    const ofSensor = records.filter(record => counts(record) && sensor(record) === name)
    for (let start = 0; start <= 2_760; start++) {
      const defined = ofSensor.some(
        record => (own(record) === start || record.timeMs + 1 === start) && takes(record, start),
      )
      const inside = ofSensor.filter(
        record => record.timeMs >= start && record.timeMs < end(start) && takes(record, start),
      )
      if (!defined || inside.length === 0) continue
      const values = inside.map(({ value }) => (value as Reading).value).join()
      const line = `${name}[${start},${end(start)})=${values}`
      const final = end(start) + GRACE_MS <= watermarkMs
      found.push({ line, timeMs: inside.at(-1)!.timeMs, final })
    }
  }
  const emitted = emit === 'update' ? found : found.filter(({ final }) => final)
  return {
    rows: found.map(({ line, final }) => line + (final ? '!' : '')).sort(),
    changes: emitted.map(({ line, timeMs }) => `${line}@${timeMs}`).sort(),
    dead: records
      .filter(record => !takes(record, own(record)))
      .map(record => deadLetter('late', record))
      .sort(),
  }
}

export const slidingProofs: readonly NamedProof[] = (['update', 'close'] as const).map(emit => ({
  name: `sliding windows, emit on ${emit}`,
  proof: prove<Results>({
    topology: () => readings({ differenceMs: DIFFERENCE_MS, graceMs: GRACE_MS, emit }),
    partitions: 3,
    inputs: random =>
      disordered(random, {
        topics: ['readings'],
        partitions: 3,
        count: 300,
        stepMs: 9,
        delayMs: 70,
        record: (r, { i }) => ({
          key: `k${i}`,
          value: { sensor: r.pick(['a', 'b', 'c', 'd']), value: 100 + i },
        }),
        end: { timeMs: 2_705, value: { sensor: 'end', value: 0 } },
      }),
    results: async driver => ({
      rows: (await rows(driver)).sort(),
      changes: emit === 'update' ? await latest(driver, 'changes') : await withTimes(driver),
      dead: await deadLetters(driver),
    }),
    oracle: (records, watermarkMs) => oracle(records, watermarkMs, emit),
    reaches: ({ rows, dead }) => {
      assert(rows.length > 300)
      assert(rows.filter(row => !row.endsWith('!')).length > 3)
      assert(dead.length > 2)
    },
  }),
}))

/** Every result, so that a second one of a window would show. */
async function withTimes(driver: Outcome): Promise<string[]> {
  const results = await driver.output('changes', { key: textKey(), value: text() })
  return results.map(({ key, value, timeMs }) => `${key}=${value}@${timeMs}`).sort()
}
