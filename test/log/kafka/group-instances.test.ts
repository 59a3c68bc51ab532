/** Engines of one application in a streams group of a real broker, beyond how tasks are placed. */
import { afterEach, expect, test } from 'vitest'
import { Cluster } from '../../../log/kafka/cluster.ts'
import { apiVersions } from '../../../log/kafka/cluster-apis.ts'
import { streamsGroupDescribe } from '../../../log/kafka/streams-group-wire.ts'
import { json, Topology, textKey } from '../../../streams/index.ts'
import { type Application, startApplication } from '../../support/kafka/application.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { environment } from './environment.ts'

function counting(application: string): Topology {
  const topology = new Topology(application)
  topology
    .stream(`${application}-events`, { key: textKey(), value: json<number>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .count({ name: 'counts' })
  return topology
}

describeOnKafka('instances of an application', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function start(
    application: string,
    memberId: string,
    member: { rackId?: string } = {},
  ): Promise<Application> {
    const running = await startApplication({
      bootstrap: kafka.bootstrap,
      topology: counting(application),
      settings: { createPartitions: 2 },
      member: { memberId, ...member },
    })
    closing.push(() => running.stop())
    return running
  }

  async function connect(): Promise<Cluster> {
    const cluster = await Cluster.connect({ bootstrap: [kafka.bootstrap], environment })
    closing.push(() => cluster.close())
    return cluster
  }

  const ready = ({ engine }: Application) => engine.state === 'running'

  test('the one for which there is no task is ready and says so, and takes over', async () => {
    const application = ownName('idle')
    const all: Application[] = []
    for (const id of ['one', 'two', 'three']) all.push(await start(application, `member-${id}`))
    const holding = () => all.map(({ engine }) => engine.assembly.tasks.length).sort()
    await expect.poll(holding).toEqual([0, 1, 1])
    await expect.poll(() => all.every(ready)).toBe(true)
    const idle = all.find(({ engine }) => engine.assembly.tasks.length === 0)!
    const detail = 'The group has no task for this instance at present.'
    expect(idle.engine.membership!.status.state).toBe('idle')
    expect(idle.engine.tasks()).toEqual([{ task: 'instance', state: 'running', detail }])
    await all.find(one => one !== idle)!.stop()
    await expect.poll(() => idle.engine.assembly.tasks.length).toBe(1)
    await expect.poll(() => ready(idle)).toBe(true)
    expect(idle.engine.detail).toBe('processing')
  })

  test('its rack reaches the group', async () => {
    const application = ownName('rack')
    await start(application, 'member-in-zone-b', { rackId: 'zone-b' })
    const cluster = await connect()
    const node = await cluster.coordinator('group', application)
    const racks = async () => {
      const [group] = await cluster.call(node, 'metadata', streamsGroupDescribe, [application])
      return group!.members.map(({ rackId }) => rackId)
    }
    await expect.poll(racks).toEqual(['zone-b'])
  })

  test('a group that was asked to shut down can be started again at once', async () => {
    const application = ownName('shutdown')
    const one = await start(application, 'member-one')
    const two = await start(application, 'member-two')
    await expect.poll(() => [one, two].every(ready)).toBe(true)
    two.engine.membership!.requestShutdown()
    for (const { engine } of [one, two]) {
      await expect.poll(() => engine.membership!.status.shutdownRequested).toBe(true)
    }
    // As a service stops that wants its tasks back.
    await Promise.all([one, two].map(({ engine }) => engine.stop()))
    const again = await start(application, 'member-one')
    await expect.poll(() => ready(again)).toBe(true)
    expect(again.engine.membership!.status.shutdownRequested).toBe(false)
    expect(again.engine.assembly.tasks).toHaveLength(2)
  })

  // When this fails, see what the new version is for, and take it where both sides have it.
  test('the broker knows one version of heartbeat and description, the one we speak', async () => {
    const cluster = await connect()
    const [node] = cluster.nodes
    const { versions } = await cluster.call(node!, 'metadata', apiVersions, 'test', '1')
    expect([88, 89].map(key => versions.get(key))).toEqual([
      { min: 0, max: 0 },
      { min: 0, max: 0 },
    ])
  })
})
