/**
 * What instances of one application ask each other, over the public routes: the header
 * `Millrace-Partitions` (numbers, comma separated) and the member `scope` of a live subscription
 * say "only what runs on this instance". Internal: it may change with the version.
 */

/** Answer of `/v1/views/{name}/rows` with `Millrace-Partitions`. */
export interface PartRowsBody {
  readonly rows: readonly Readonly<Record<string, unknown>>[]
  /** Row key and partition of each row, which order the rows of all partitions. */
  readonly places: readonly (readonly [key: string, partition: number])[]
  readonly position: string
  readonly next: string | null
}

/** Answer of `/v1/views/{name}/rows/{key}` with it; 404 ROW_MISSING where it has none. */
export interface PartRowBody {
  readonly row: Readonly<Record<string, unknown>>
  readonly position: string
}

export const partitionsHeader = 'millrace-partitions'
export const instanceScope = 'instance'
