/**
 * Which part of the thread's time goes into some files and all that they call, by a profile: a
 * share that a busy machine hardly changes, where rates differ from run to run.
 */
import type { Profiler } from 'node:inspector'
import { Session } from 'node:inspector/promises'

const INTERVAL_US = 200

/** Share of the time that the thread was busy with `work`, 0 to 1; collecting garbage is apart. */
export async function shareOf(files: RegExp, work: () => Promise<unknown>): Promise<number> {
  const session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.setSamplingInterval', { interval: INTERVAL_US })
  await session.post('Profiler.start')
  await work()
  const { profile } = await session.post('Profiler.stop')
  session.disconnect()
  return share(profile, files)
}

/** By samples, not by the time between them: that may be another process's. */
function share({ nodes, samples = [] }: Profiler.Profile, files: RegExp): number {
  const parents = new Map<number, number>()
  for (const { id, children = [] } of nodes) for (const child of children) parents.set(child, id)
  const inside = new Map<number, boolean>()
  const isIdle = new Set<number>()
  // A caller stands before those that it calls.
  for (const { id, callFrame } of nodes) {
    const parent = parents.get(id)
    const above = parent !== undefined && inside.get(parent) === true
    inside.set(id, above || files.test(callFrame.url))
    if (/^\((idle|garbage collector)\)$/.test(callFrame.functionName)) isIdle.add(id)
  }
  const busy = samples.filter(id => !isIdle.has(id))
  return busy.filter(id => inside.get(id)).length / busy.length
}
