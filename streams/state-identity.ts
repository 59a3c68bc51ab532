/** What a topology's stores hold, to be compared with what the database was written by. */
import type { Fingerprint, StoreIdentity } from '../state/fingerprint.ts'
import { eventTimeStore } from './event-time.ts'
import type { Plan } from './plan.ts'
import { storeInDatabase } from './task-parts.ts'

/** Version of the rows' own layout: key order, timed values, pending rows. */
const FORMAT = 1

export function stateIdentity(plan: Plan): Fingerprint {
  const { application, nodes } = plan.topology
  const identities = new Map<string, StoreIdentity>()
  for (const { name, partitions, nodes: ids } of plan.subTopologies) {
    const add = (store: string, rest: Pick<StoreIdentity, 'kind' | 'codec' | 'segmentMs'>) => {
      identities.set(storeInDatabase(application, store), { ...rest, format: FORMAT, partitions })
    }
    add(eventTimeStore(name), { kind: 'rows', codec: 'event-time' })
    for (const id of ids) {
      const node = nodes[id]!
      if (node.kind !== 'operator') continue
      const codec = node.identity === undefined ? node.type : `${node.type} ${node.identity}`
      for (const spec of node.stores) {
        if (spec.kind === 'rows') add(spec.name, { kind: 'rows', codec })
        else add(spec.name, { kind: 'blocks', codec, segmentMs: spec.segmentMs })
      }
    }
  }
  return identities
}
