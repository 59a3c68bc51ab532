/** Every stateful step on several instances, under disasters: what the oracle computes. */
import { test } from 'vitest'
import { stepProofs } from '../oracle/proofs/index.ts'
import { proveOnCluster } from './prove.ts'

const STORIES = 2

for (const [i, { name, proof }] of stepProofs.entries()) {
  test(`${name}: equal on instances that come, go and die`, async () => {
    for (let story = 0; story < STORIES; story++) {
      await proveOnCluster(proof, { seed: 10_000 + i * 100 + story })
    }
  })
}
