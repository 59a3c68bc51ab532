/** Deployments over the simulated cluster, each round ten stories of the shop and its parts. */
import type { Campaign } from '../support/campaigns.ts'
import { playDeployments, positionsTopics } from './deployments.ts'

const STORIES = 10

export const campaign: Campaign = {
  name: 'cluster-deployments',
  async run({ seed, rounds, ci, log }) {
    const total = rounds ?? (ci ? 1 : 20)
    const notes: string[] = []
    let passed = 0
    for (let round = 0; round < total; round++) {
      const sums = { kills: 0, moves: 0, topics: 0 }
      for (let i = 0; i < STORIES; i++) {
        const story = (seed * 1_000_003 + round * STORIES + i) % 2 ** 31
        try {
          const cluster = await playDeployments(story)
          passed++
          sums.kills += cluster.counts.kills
          sums.moves += cluster.counts.moves
          sums.topics += positionsTopics(cluster)
        } catch (error) {
          const text = error instanceof Error ? error.message : String(error)
          notes.push(`story ${story}: ${text.split('\n').slice(0, 4).join(' ').slice(0, 400)}`)
        }
      }
      const { kills, moves, topics } = sums
      log(`round ${round}: ${topics} sources of branches, ${moves} tasks taken, ${kills} kills`)
    }
    return { passed, failed: notes.length, notes }
  },
}
