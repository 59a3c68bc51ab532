import assert from 'node:assert/strict'
import type { Alert, AlertKey } from '../../../processors/analytics/alerts.ts'
import { attemptAlertsTopology } from '../../../processors/analytics/attempt-alerts.ts'
import type { PaymentAttempt } from '../../../processors/analytics/payment-attempts.ts'
import { fieldsKey, json, Topology, textKey } from '../../../streams/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { disordered, type Stamped } from '../../oracle/inputs.ts'
import { deadLetter, deadLetters, type Outcome, type Proof } from '../../oracle/proof.ts'

const minute = 60_000
const reach = 10 * minute
const grace = 10 * minute
const alerts = { key: fieldsKey('rule', 'key'), value: json<Alert>() }

function topology(): Topology {
  const made = new Topology('attempts')
  const attempts = made.stream('in', { key: textKey(), value: json<PaymentAttempt>() })
  attemptAlertsTopology(attempts).to('out', alerts)
  return made
}

const shown = (key: string, end: number, observed: number) => `${key}@${end}: ${observed}`

async function written(outcome: Outcome): Promise<string[]> {
  const records = await outcome.output<AlertKey, Alert>('out', alerts)
  return records
    .map(({ key, value, timeMs }) => {
      assert(value !== null && value.windowEnd === timeMs && value.windowStart === timeMs - reach)
      return shown(key!.key, value.windowEnd, value.observed)
    })
    .sort()
}

/** Every time of an attempt is judged, in order, with all attempts known. */
function oracle(records: readonly Stamped[], watermarkMs: number) {
  const out: string[] = []
  const dead: string[] = []
  const times = new Map<string, number[]>()
  for (const record of records) {
    const { customerId } = record.value as PaymentAttempt
    if (record.timeMs + grace <= record.streamTimeMs) dead.push(deadLetter('late', record))
    else times.set(customerId, [...(times.get(customerId) ?? []), record.timeMs])
  }
  for (const [customerId, own] of times) {
    let before = { time: Number.NEGATIVE_INFINITY, isOver: false }
    for (const time of new Set(own)) {
      const observed = own.filter(one => one >= time - reach && one <= time).length
      const isOver = observed > 3
      const goesOn = before.isOver && before.time >= time - reach
      if (isOver && !goesOn && time + grace <= watermarkMs) {
        out.push(shown(customerId, time, observed))
      }
      before = { time, isOver }
    }
  }
  return { out: out.sort(), dead: dead.sort() }
}

const proof: Proof<ReturnType<typeof oracle>> = {
  topology,
  partitions: 3,
  inputs: random =>
    disordered(random, {
      topics: ['in'],
      partitions: 3,
      count: 700,
      stepMs: minute,
      delayMs: 9 * minute,
      record: (r, { i }) => {
        // Some come in a burst and never again, some now and then over a while, one all the time.
        const [burst, visit] = [`x${Math.floor(i / 7)}`, `y${Math.floor(i / 30)}`]
        const customerId = r.pick([burst, burst, burst, burst, visit, visit, visit, 'z'])
        return { key: `o${i}`, value: { customerId } }
      },
      end: { timeMs: 750 * minute, value: { customerId: 'end' } },
    }),
  results: async outcome => ({ out: await written(outcome), dead: await deadLetters(outcome) }),
  oracle,
  reaches: ({ out, dead }) => {
    assert(out.length > 5, 'alerts')
    assert(dead.length > 0, 'late attempts')
  },
}

proofSuite('the attempts rule', proof, { oracles: 10, cuts: 20 })
