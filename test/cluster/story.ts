/**
 * A story: the records of a proof fed to a simulated cluster bit by bit, while instances come and
 * go, die, lose their disks, are stopped for a while, or lose their group; everything from a seed.
 */
import assert from 'node:assert/strict'
import type { EngineSettings } from '../../streams/environment.ts'
import type { Topology } from '../../streams/index.ts'
import { type Input, interleave } from '../oracle/inputs.ts'
import { Random } from '../support/random.ts'
import { type Instance, SimulatedCluster } from '../support/simulation/cluster.ts'

export type StoryEvent =
  | 'start'
  | 'stop'
  | 'kill'
  | 'crash'
  | 'freeze'
  | 'cut-off'
  | 'loss'
  | 'shuffle'

/** `crash` kills at a crash point, `kill` anywhere; `freeze` is SIGSTOP and SIGCONT. */
export const disasters: readonly StoryEvent[] = [
  'start',
  'start',
  'stop',
  'kill',
  'crash',
  'crash',
  'freeze',
  'cut-off',
  'loss',
  'shuffle',
  'shuffle',
]

export interface Story {
  readonly seed: number
  readonly topology: () => Topology
  readonly partitions: number
  readonly inputs: readonly Input[]
  readonly events?: readonly StoryEvent[]
  readonly standbys?: number
  readonly settings?: Partial<EngineSettings>
  /** Topologies that take the place of the first, one after the other, at random moments. */
  readonly deployments?: readonly (() => Topology)[]
  /** Looks at the cluster now and then. */
  readonly look?: (cluster: SimulatedCluster) => Promise<void>
}

const NAMES = ['a', 'b', 'c']

/** Plays a story to its end: all records processed, three instances running, nobody dead. */
export async function play(story: Story): Promise<SimulatedCluster> {
  const { seed, events = disasters, standbys = seed % 2, look, deployments = [] } = story
  const random = new Random(seed)
  const cluster = new SimulatedCluster({
    ...story,
    standbys,
    settings: { ...randomSettings(random), ...story.settings },
  })
  for (const name of NAMES.slice(random.below(3))) cluster.start(name)
  const cuts = interleave(story.inputs, random)
  const stepMs = 25_000 / cuts.length
  const waiting = [...deployments]
  const moments = waiting.map(() => random.below(cuts.length)).sort((a, b) => b - a)
  while (cuts.length > 0) {
    const size = random.below(3) === 0 ? 1 + random.below(8) : 1
    for (const cut of cuts.splice(0, size)) cluster.append(cut)
    await cluster.time.run(random.exponential(size * stepMs))
    failWith(cluster)
    await look?.(cluster)
    buryTheDead(cluster, random)
    while (moments[0] !== undefined && cuts.length <= moments[0]) {
      moments.shift()
      await deploy(waiting.shift()!, cluster, random)
    }
    if (random.below(Math.ceil(700 / stepMs)) === 0)
      await happen(random.pick(events), cluster, random)
    if (cluster.live.length === 0) start(cluster, random)
  }
  await bringToRest(cluster)
  await look?.(cluster)
  assert.deepEqual(cluster.broker.violations, [])
  return cluster
}

export function randomSettings(random: Random): Partial<EngineSettings> {
  return {
    epochRecordsMax: random.pick([1, 7, 50, 1000]),
    epochMsMin: random.pick([0, 20, 100]),
    alignMs: random.pick([10, 1000, 1_000_000]),
    storeCacheBytes: random.pick([0, 2000, 1_000_000]),
    closeRowsMax: random.pick([1, 3, 10_000]),
    trimIntervalMs: random.pick([0, 300, 5_000]),
    watermarkIntervalMs: random.pick([0, 100, 1_000]),
  }
}

/** An engine that gave up is never right here. */
function failWith({ instances }: SimulatedCluster): void {
  for (const { failure } of instances) if (failure !== undefined) throw failure
}

function buryTheDead(cluster: SimulatedCluster, random: Random): void {
  for (const instance of cluster.instances) {
    if (!instance.process.dead || random.below(3) === 0) continue
    cluster.bury(instance, { loseDisk: random.below(4) === 0 })
  }
}

/** All instances stop or die, and others start with the new topology. */
async function deploy(
  topology: () => Topology,
  cluster: SimulatedCluster,
  random: Random,
): Promise<void> {
  for (const instance of [...cluster.instances]) {
    if (random.below(2) === 0) cluster.bury(instance)
    else await cluster.stop(instance)
  }
  cluster.deploy(topology)
  for (const name of NAMES.slice(random.below(3))) cluster.start(name)
}

function start(cluster: SimulatedCluster, random: Random): void {
  const idle = NAMES.filter(name => !cluster.instances.some(({ id }) => id === name))
  if (idle.length > 0) cluster.start(random.pick(idle))
}

async function happen(event: StoryEvent, cluster: SimulatedCluster, random: Random): Promise<void> {
  const { live, time } = cluster
  if (event === 'start') start(cluster, random)
  if (live.length === 0) return
  const one: Instance = random.pick(live)
  const longMs = () => random.pick([500, 3_000, 9_000]) + random.below(2_000)
  if (event === 'stop' && live.length > 1) await cluster.stop(one)
  if (event === 'kill') cluster.kill(one)
  if (event === 'crash') one.left = random.below(30)
  if (event === 'freeze') cluster.freeze(one, longMs())
  if (event === 'cut-off') cluster.group?.cutOff(one.id, longMs())
  if (event === 'shuffle') cluster.group?.coordinator.shuffle()
  if (event === 'loss' && cluster.group !== undefined) {
    const { group } = cluster
    group.lossShare = 0.3
    time.schedule(() => {
      group.lossShare = 0
    }, longMs())
  }
}

async function bringToRest(cluster: SimulatedCluster): Promise<void> {
  cluster.calm()
  for (const instance of cluster.instances) {
    instance.left = Number.POSITIVE_INFINITY
    if (instance.process.dead) cluster.bury(instance)
  }
  for (const name of NAMES) {
    if (!cluster.instances.some(({ id }) => id === name)) cluster.start(name)
  }
  await cluster.drain()
}
