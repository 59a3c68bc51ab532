/** The law for chains, in one process; what is compared stands in `proofs/chains.ts`. */
import { expect, test } from 'vitest'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { proofSuite } from './harness.ts'
import { chainProofs, nameOf, refusedChains, topologyOf } from './proofs/chains.ts'

for (const { name, proof, runs } of chainProofs) proofSuite(name, proof, runs)

for (const chain of refusedChains) {
  test(`${nameOf(chain)}: refused, as it would decide by the times of updates`, async () => {
    await expect(TopologyTestDriver.open(topologyOf(chain))).rejects.toThrow(
      /second-.* decides by event time but is fed with the updates of first-aggregate/,
    )
  })
}
