/** The transactional producer under faults from a seed; the unit of `--rounds` is a list-append. */
import type { Campaign } from '../../support/campaigns.ts'
import { runListAppend } from './list-append.ts'
import { startBehindProxies } from './producing.ts'

export const campaign: Campaign = {
  name: 'kafka-producer',
  async run({ seed, rounds, ci, log }) {
    const total = rounds ?? (ci ? 3 : 30)
    const transactions = ci ? 60 : 150
    const proxied = await startBehindProxies()
    const notes: string[] = []
    try {
      for (let round = 0; round < total; round++) {
        const own = seed * 1000 + round
        const isBrokerKilled = round % 3 === 1
        const options = { proxied, seed: own, transactions, isBrokerKilled }
        const { counts, problems } = await runListAppend(options)
        const shown = [...counts].map(([what, count]) => `${what} ${count}`).join(', ')
        log(`round ${round}: ${shown}`)
        if (problems.length > 0) notes.push(`round ${round} (${own}): ${problems.join('; ')}`)
      }
    } finally {
      await proxied.stop()
    }
    return { passed: total - notes.length, failed: notes.length, notes }
  },
}
