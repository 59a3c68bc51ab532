/**
 * Kills the shop's process at named crash points, from a seed, again and again until it gets
 * through, and compares everything that came out with the oracle: views, output topics, dead
 * letters, and every store with its folded changelog.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Campaign } from '../support/campaigns.ts'
import { root, runProcess } from '../support/processes.ts'
import { Random } from '../support/random.ts'
import { shopOracle, shopRecords } from '../support/shop.ts'

const POINTS = [
  'polled',
  'run',
  'log-committed',
  'store-applied',
  'published',
  'restore-mid',
  'expire-mid',
  'close-mid',
]
const ORDERS = 1_500
/** What `runProcess` answers for a process that a signal ended. */
const AFTER_SIGNAL = 128
/** Kills of one state directory before it is let through. */
const KILLS = 10

export interface CrashOutcome {
  readonly kills: number
  readonly reached: ReadonlyMap<string, number>
  /** Empty when all is equal. */
  readonly differences: readonly string[]
}

export async function crashRun(seed: number, kills = KILLS): Promise<CrashOutcome> {
  const random = new Random(seed)
  const directory = await mkdtemp(join(tmpdir(), 'millrace-crash-'))
  const script = join(root, 'test/crash/shop-process.ts')
  const reached = new Map<string, number>()
  let killed = 0
  try {
    for (let attempt = 0; attempt < kills * 4; attempt++) {
      const last = killed >= kills
      const point = last ? 'none' : random.pick(POINTS)
      const forget = point === 'restore-mid' || random.below(4) === 0 ? 'forget' : ''
      const nth = 1 + random.below(point.endsWith('-mid') ? 3 : 6)
      const run = await runProcess(
        process.execPath,
        [script, directory, String(seed), String(ORDERS), point, String(nth), forget],
        { timeoutMs: 120_000 },
      )
      if (run.code === 0) {
        // It got through before it was killed often enough: it starts from nothing again.
        if (!last) {
          await rm(directory, { recursive: true, force: true })
          continue
        }
        return { kills: killed, reached, differences: compare(seed, run.output) }
      }
      if (run.code !== AFTER_SIGNAL) {
        return {
          kills: killed,
          reached,
          differences: [`the process failed: ${run.output.slice(-2000)}`],
        }
      }
      killed++
      reached.set(point, (reached.get(point) ?? 0) + 1)
    }
    return { kills: killed, reached, differences: ['it never got through'] }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

function compare(seed: number, output: string): string[] {
  const line = output.trim().split('\n').at(-1)!
  const results = JSON.parse(line) as Record<string, unknown>
  const { late, ...expected } = shopOracle(shopRecords(seed, ORDERS))
  const wanted: Record<string, unknown> = { ...expected, unequal: [], dead: late }
  return Object.keys(wanted).filter(name => !isDeepStrictEqual(results[name], wanted[name]))
}

export const campaign: Campaign = {
  name: 'crash-shop',
  async run({ seed, rounds, ci, log }) {
    const total = rounds ?? (ci ? 2 : 12)
    let passed = 0
    const notes: string[] = []
    for (let round = 0; round < total; round++) {
      const outcome = await crashRun(seed * 1000 + round)
      const points = [...outcome.reached].map(([point, count]) => `${point} ${count}`).join(', ')
      log(`round ${round}: ${outcome.kills} kills (${points})`)
      if (outcome.differences.length === 0) passed++
      else notes.push(`seed ${seed * 1000 + round} differs: ${outcome.differences.join('; ')}`)
    }
    return { passed, failed: total - passed, notes }
  },
}
