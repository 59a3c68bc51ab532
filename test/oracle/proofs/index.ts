/** All proofs of single steps. Those of chains of two are in `chains.ts`. */
import type { NamedProof } from '../proof.ts'
import { aggregateProofs } from './aggregate.ts'
import { asOfProofs } from './as-of.ts'
import { deduplicateProofs } from './deduplicate.ts'
import { foreignKeyProofs } from './foreign-key.ts'
import { joinProofs } from './joins.ts'
import { sequenceProofs } from './match-sequence.ts'
import { processProofs } from './process.ts'
import { sessionProofs } from './session-aggregate.ts'
import { sketchProofs } from './sketch-aggregate.ts'
import { slidingProofs } from './sliding-aggregate.ts'
import { tableProofs } from './tables.ts'
import { topKProofs } from './top-k.ts'
import { versionedProofs } from './versioned.ts'
import { windowProofs } from './window-aggregate.ts'

export const stepProofs: readonly NamedProof[] = [
  ...aggregateProofs,
  ...deduplicateProofs,
  ...joinProofs,
  ...processProofs,
  ...sequenceProofs,
  ...sessionProofs,
  ...sketchProofs,
  ...slidingProofs,
  ...tableProofs,
  ...topKProofs,
  ...versionedProofs,
  ...windowProofs,
  ...asOfProofs,
  ...foreignKeyProofs,
]
