/**
 * Several applications in one process: each a topology with its own group, state and views. They
 * share a database, a log's topics and the names under which views are served, so their names must
 * keep apart what is theirs.
 */
import { streamsError } from './errors.ts'
import type { Topology } from './topology.ts'

/**
 * Throws APPLICATIONS_CLASH for two applications whose rows, internal topics or views would be
 * taken for each other's.
 */
export function checkApplications(topologies: readonly Topology[]): void {
  const owners = new Map<string, string>()
  topologies.forEach(({ application, views }, i) => {
    for (const other of topologies.slice(i + 1)) checkNames(application, other.application)
    for (const { declaration } of views) {
      const owner = owners.get(declaration.name)
      if (owner !== undefined) {
        const reason = `${owner} and ${application} both have a view ${declaration.name}`
        throw streamsError('APPLICATIONS_CLASH', { reason })
      }
      owners.set(declaration.name, application)
    }
  })
}

/** Internal topics begin with the name and `-`, rows in the database with the name and `.`. */
function checkNames(one: string, other: string): void {
  if (one === other) {
    throw streamsError('APPLICATIONS_CLASH', { reason: `two of them are named ${one}` })
  }
  const [short, long] = one.length < other.length ? [one, other] : [other, one]
  for (const separator of ['-', '.']) {
    if (!long.startsWith(short + separator)) continue
    const reason = `what ${long} keeps would be taken for ${short}'s, as its name begins with "${short}${separator}"`
    throw streamsError('APPLICATIONS_CLASH', { reason })
  }
}
