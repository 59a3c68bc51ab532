/**
 * Every step and every chain of two under the simulated cluster, each round with another story:
 * several instances, moves, kills at crash points and anywhere, lost disks, stopped processes,
 * lost heartbeats, standbys.
 */
import { chainProofs } from '../oracle/proofs/chains.ts'
import { stepProofs } from '../oracle/proofs/index.ts'
import type { Campaign } from '../support/campaigns.ts'
import { proveOnCluster } from './prove.ts'

const proofs = [...stepProofs, ...chainProofs]

/** Told apart for every proof, round and seed of a campaign. */
const seedOf = (seed: number, round: number, proof: number) =>
  (seed * 1_000_003 + round * proofs.length + proof) % 2 ** 31

function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.split('\n').slice(0, 4).join(' ').slice(0, 400)
}

export const campaign: Campaign = {
  name: 'cluster',
  async run({ seed, rounds, ci, log }) {
    const total = rounds ?? (ci ? 2 : 20)
    const notes: string[] = []
    let passed = 0
    for (let round = 0; round < total; round++) {
      const sums = { kills: 0, moves: 0, aborts: 0, exchanged: 0 }
      for (const [i, { name, proof }] of proofs.entries()) {
        const story = seedOf(seed, round, i)
        try {
          const { counts, broker } = await proveOnCluster(proof, { seed: story })
          passed++
          sums.kills += counts.kills
          sums.moves += counts.moves
          sums.aborts += broker.counts.aborts
          sums.exchanged += counts.exchanged
        } catch (error) {
          notes.push(`${name}, story ${story}: ${reasonOf(error)}`)
        }
      }
      const { kills, moves, aborts, exchanged } = sums
      log(
        `round ${round}: ${proofs.length} stories, ${moves} tasks taken, ${kills} kills, ${aborts} aborted transactions, ${exchanged} records through topics`,
      )
    }
    return { passed, failed: notes.length, notes }
  },
}
