/** How far branches that are behind their input have come, for people. */
import type { Assembly } from './assembly.ts'
import type { Task } from './task.ts'

const count = (records: number) => records.toLocaleString('en-US')

/** A sentence about each task that runs here. */
export function runningDetails({ sources }: Assembly): (task: Task) => string {
  const details = new Map<number, string>()
  for (const { branch } of sources) {
    if (branch === 0 || details.has(branch)) continue
    const its = sources.filter(source => source.branch === branch)
    const read = its.reduce((sum, { position }) => sum + position, 0)
    const end = its.reduce((sum, input) => sum + Math.max(input.endOffset, input.position), 0)
    if (read < end) details.set(branch, `building from ${count(read)} of ${count(end)} records`)
  }
  return ({ subTopology }) => details.get(subTopology.branch) ?? 'processing'
}
