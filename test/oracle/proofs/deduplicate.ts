/** Deduplication by a header. */
import assert from 'node:assert/strict'
import { Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Input, type Stamped } from '../inputs.ts'
import { type NamedProof, prove, written } from '../proof.ts'

const LINES = { key: textKey(), value: text() }

export const header = (id: string | undefined): Record<string, string> =>
  id === undefined ? {} : { ce_id: id }
const PROOF_TTL_MS = 300

function proven(): Topology {
  const topology = new Topology('proven')
  const passed = topology
    .stream('in', { key: textKey(), value: text() })
    .repartition({ name: 'by-key', key: textKey() })
    .deduplicate({ name: 'seen', id: { header: 'ce_id' }, ttlMs: PROOF_TTL_MS })
  passed.to('out', LINES)
  passed.side('duplicate').to('copies', LINES)
  return topology
}

/** In the order of the log: an id passes unless one within the time to live has. */
function oracle(records: readonly Stamped[]) {
  const passed = new Map<string, number[]>()
  const out: string[] = []
  const copies: string[] = []
  const byOffset = [...records].sort((a, b) => a.partition - b.partition || a.offset - b.offset)
  for (const { key, value, headers, streamTimeMs } of byOffset) {
    const id = headers?.ce_id
    const seen = id === undefined ? [] : (passed.get(id) ?? [])
    const isCopy = seen.some(timeMs => streamTimeMs - timeMs <= PROOF_TTL_MS)
    ;(isCopy ? copies : out).push(`${key}=${value}`)
    if (!isCopy && id !== undefined) passed.set(id, [...seen, streamTimeMs])
  }
  return { out: out.sort(), copies: copies.sort() }
}

export const deduplicateProofs: readonly NamedProof[] = [
  {
    name: 'deduplicate',
    proof: prove({
      topology: proven,
      partitions: 3,
      // Keys and ids of one source partition each, so that copies have an order.
      inputs: (random): Input[] =>
        disordered(random, {
          topics: ['in'],
          partitions: 3,
          count: 400,
          stepMs: 8,
          delayMs: 60,
          record: (r, { i, partition }) => {
            const id = Math.floor(i / 20) * 10 + r.below(25)
            const headers = header(r.below(20) === 0 ? undefined : `${partition}-${id}`)
            return { key: `${partition}-${id}`, value: `v${i}`, headers }
          },
          end: { timeMs: 3_500, value: 'end' },
        }),
      results: async driver => ({
        out: await written(driver, 'out'),
        copies: await written(driver, 'copies'),
      }),
      oracle,
      reaches: ({ out, copies }) => {
        assert(copies.length > 20)
        assert(out.length > 100)
      },
    }),
  },
]
