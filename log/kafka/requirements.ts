/** What a cluster must have: every request the driver sends, in the version it sends. */
import type { ApiVersions } from './cluster-apis.ts'
import { apiName } from './connections.ts'

/** By API key. Each request has one version: the required features imply them all. */
const versions: readonly (readonly [key: number, version: number])[] = [
  [0, 12], // Produce
  [1, 17], // Fetch
  [2, 8], // ListOffsets
  [3, 12], // Metadata
  [8, 9], // OffsetCommit
  [9, 9], // OffsetFetch
  [10, 4], // FindCoordinator
  [16, 5], // ListGroups
  [19, 7], // CreateTopics
  [20, 6], // DeleteTopics
  [21, 2], // DeleteRecords
  [22, 5], // InitProducerId
  [26, 5], // EndTxn
  [28, 5], // TxnOffsetCommit
  [32, 4], // DescribeConfigs
  [42, 2], // DeleteGroups
  [44, 1], // IncrementalAlterConfigs
  [88, 0], // StreamsGroupHeartbeat
  [89, 0], // StreamsGroupDescribe
]

/** Finalized levels: transactions that enrol and fence by themselves, streams groups. */
const features: readonly (readonly [name: string, level: number])[] = [
  ['transaction.version', 2],
  ['streams.version', 1],
]

export function supportsVersion(found: ApiVersions, key: number, version: number): boolean {
  const range = found.versions.get(key)
  return range !== undefined && range.min <= version && version <= range.max
}

/** What the cluster lacks, in words; empty when it will do. */
export function missingFrom(found: ApiVersions): string {
  const lacking = versions
    .filter(([key, version]) => !supportsVersion(found, key, version))
    .map(([key, version]) => `${apiName(key)} v${version}`)
  for (const [name, level] of features) {
    const actual = found.features.get(name) ?? 0
    if (actual < level) lacking.push(`${name} ${level} (it is ${actual})`)
  }
  return lacking.join(', ')
}
