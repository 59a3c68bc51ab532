/**
 * One bit flipped at random positions of a real data folder (faults.md, row 20): never a wrong
 * answer. A start either goes on and everything equals the oracle, or stops with an error of the
 * catalogue, and then a salvage makes it start and the oracle is reached all the same.
 */
import { rm } from 'node:fs/promises'
import type { Campaign } from '../support/campaigns.ts'
import { Random } from '../support/random.ts'
import {
  applyFlip,
  copyFolder,
  type DamageResult,
  damageRun,
  type Flip,
  makeFolder,
  randomFlip,
} from './damaged-shop.ts'

const FLIPS = 200
const FLIPS_CI = 16
const FLIPS_A_FOLDER = 25

/** Without its first record a manifest names no table: only a copy helps. */
function isHopeless({ file }: Flip, { outcome }: DamageResult): boolean {
  return outcome === 'impossible' && file.startsWith('MANIFEST-')
}

export const campaign: Campaign = {
  name: 'damage',
  async run({ seed, rounds, ci, log }) {
    const flips = rounds ?? (ci ? FLIPS_CI : FLIPS)
    const random = new Random(seed)
    const outcomes = new Map<string, number>()
    const notes: string[] = []
    let folder: string | undefined
    for (let i = 0; i < flips; i++) {
      if (folder === undefined || i % FLIPS_A_FOLDER === 0) {
        if (folder !== undefined) await rm(folder, { recursive: true, force: true })
        folder = await makeFolder(seed, (i / FLIPS_A_FOLDER) % 2 < 1 ? 'killed' : 'closed')
      }
      const copy = await copyFolder(folder)
      const flip = await randomFlip(copy, random)
      await applyFlip(copy, flip)
      const result = await damageRun(copy, seed)
      await rm(copy, { recursive: true, force: true })
      outcomes.set(result.outcome, (outcomes.get(result.outcome) ?? 0) + 1)
      const { failures, outcome, error = '' } = result
      if (failures.length > 0) {
        notes.push(`flip ${i} ${JSON.stringify(flip)}: ${outcome}, ${failures.join('; ')}`)
      } else if (outcome === 'impossible' && !isHopeless(flip, result)) {
        notes.push(`flip ${i} ${JSON.stringify(flip)} was not salvaged: ${error}`)
      }
    }
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
    log([...outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', '))
    return { passed: flips - notes.length, failed: notes.length, notes }
  },
}
