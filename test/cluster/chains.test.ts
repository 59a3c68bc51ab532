/** Every chain of two steps on several instances, under disasters: what the oracle computes. */
import { test } from 'vitest'
import { chainProofs } from '../oracle/proofs/chains.ts'
import { proveOnCluster } from './prove.ts'

for (const [i, { name, proof }] of chainProofs.entries()) {
  test(`${name}: equal on instances that come, go and die`, async () => {
    await proveOnCluster(proof, { seed: 20_000 + i })
  })
}
