/** The codecs of streams groups against bytes that Kafka's own code has written. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Connection, Reader, type Writer } from '@platformatic/kafka'
import { expect, test } from 'vitest'
import {
  checkTopicNames,
  memberEndpoints,
  subTopologiesByTopic,
  topologyDifferences,
  wireTopology,
} from '../../../log/kafka/streams-group-topology.ts'
import {
  type DescribedSubTopology,
  type HeartbeatRequest,
  streamsGroupDescribe,
  streamsGroupHeartbeat,
} from '../../../log/kafka/streams-group-wire.ts'
import type { KafkaApi } from '../../../log/kafka/wire.ts'
import { type GroupTopology, noTasks } from '../../../log/membership.ts'

function golden(name: string): Buffer {
  return readFileSync(join(import.meta.dirname, `../golden/streams-group-${name}.bin`))
}

/** The request's bytes, and what the answer is read as. */
function exchange<Args extends readonly unknown[], Result>(
  api: KafkaApi<Args, Result>,
  args: Args,
  answer: Buffer,
): { request: Buffer; result: Result } {
  let request: Buffer = Buffer.alloc(0)
  let result: Result | undefined
  type Parse = (correlation: number, key: number, version: number, reader: Reader) => Result
  const connection = {
    send(key: number, version: number, write: () => Writer, parse: Parse) {
      request = write().buffer
      result = parse(1, key, version, Reader.from(answer))
    },
  }
  api(connection as unknown as Connection, ...args, () => {})
  return { request, result: result! }
}

const topology: GroupTopology = {
  subTopologies: [
    {
      id: 'b',
      sourceTopics: [],
      changelogs: [],
      repartitionSinks: [],
      repartitionSources: [
        {
          name: 'app-r-repartition',
          partitions: 6,
          configs: { 'retention.ms': '-1', 'cleanup.policy': 'compact' },
        },
      ],
      copartitionGroups: [],
    },
    {
      id: 'a',
      sourceTopics: ['payments', 'orders'],
      changelogs: [
        {
          name: 'app-s-changelog',
          configs: { 'cleanup.policy': 'compact', 'retention.ms': '-1' },
        },
      ],
      repartitionSinks: ['app-r-repartition'],
      repartitionSources: [],
      copartitionGroups: [['payments', 'orders']],
    },
  ],
}

const joinRequest: HeartbeatRequest = {
  group: 'app',
  memberId: 'member-ü',
  memberEpoch: 0,
  endpointEpoch: 0,
  joining: {
    rackId: 'rack',
    rebalanceTimeoutMs: 60_000,
    subTopologies: wireTopology(topology),
    processId: 'process',
    endpoint: { host: 'one.example', port: 65_535 },
    clientTags: { zone: 'z1' },
  },
  owned: noTasks,
  shutdown: false,
}

test('a join and a heartbeat are written as Kafka writes them, a reply is read', () => {
  const joined = exchange(streamsGroupHeartbeat, [joinRequest], golden('reply'))
  expect(joined.request.toString('hex')).toBe(golden('join').toString('hex'))
  const heartbeat: HeartbeatRequest = {
    ...joinRequest,
    memberEpoch: 300,
    endpointEpoch: 7,
    joining: null,
    owned: { active: { a: [0, 1, 200], b: [3] }, standby: { a: [2] }, warmup: {} },
    shutdown: true,
  }
  const { request } = exchange(streamsGroupHeartbeat, [heartbeat], golden('reply'))
  expect(request.toString('hex')).toBe(golden('heartbeat').toString('hex'))
  expect(joined.result).toEqual({
    error: 0,
    message: 'a message',
    memberEpoch: 301,
    heartbeatIntervalMs: 5_000,
    statuses: [
      { code: 1, detail: 'Source topics x are missing.' },
      { code: 5, detail: 'delayed' },
    ],
    assignment: { active: { a: [2], b: [0, 1] }, standby: { b: [3] }, warmup: {} },
    endpointEpoch: 8,
    endpoints: [
      {
        host: 'one.example',
        port: 65_535,
        active: [
          ['orders', [2]],
          ['payments', [2]],
        ],
        standby: [['app-r-repartition', [3]]],
      },
    ],
  })
})

test('a description is read, with what it says of members and of groups that are not there', () => {
  const { result } = exchange(streamsGroupDescribe, [['app']], golden('description'))
  const tasks = { active: { a: [0, 1] }, standby: {}, warmup: {} }
  expect(result[0]).toMatchObject({ error: 69, message: 'no such group', subTopologies: null })
  expect(result[1]).toEqual({
    error: 0,
    message: null,
    group: 'app',
    state: 'Stable',
    groupEpoch: 5,
    assignmentEpoch: 4,
    subTopologies: [
      {
        id: 'a',
        sourceTopics: ['orders'],
        repartitionSinks: ['app-r-repartition'],
        changelogs: [
          {
            name: 'app-s-changelog',
            partitions: 4,
            replicationFactor: 0,
            configs: [['cleanup.policy', 'compact']],
          },
        ],
        repartitionSources: [],
      },
    ],
    members: [
      {
        memberId: 'm',
        memberEpoch: 4,
        rackId: 'rack',
        clientId: 'client',
        clientHost: '/127.0.0.1',
        processId: 'process',
        endpoint: { host: 'one.example', port: 8080 },
        clientTags: { zone: 'z1' },
        assignment: tasks,
        target: tasks,
      },
    ],
  })
})

test('endpoints lead to tasks by the topics that a sub-topology reads', () => {
  const byTopic = subTopologiesByTopic(wireTopology(topology))
  const { result } = exchange(streamsGroupHeartbeat, [joinRequest], golden('reply'))
  expect(memberEndpoints(result.endpoints!, byTopic)).toEqual([
    { host: 'one.example', port: 65_535, active: { a: [2] }, standby: { b: [3] } },
  ])
})

test('the order in which a topology was written down makes no difference', () => {
  const [first, second] = topology.subTopologies
  const reversed = {
    subTopologies: [
      {
        ...second!,
        sourceTopics: ['orders', 'payments'],
        copartitionGroups: [['orders', 'payments']],
      },
      first!,
    ],
  }
  expect(wireTopology(reversed)).toEqual(wireTopology(topology))
})

test('differences are told by name; counts that the broker filled in are none', () => {
  const wanted = wireTopology(topology)
  const stored: DescribedSubTopology[] = wanted.map(({ copartitionGroups: _, ...sub }) => ({
    ...sub,
    changelogs: sub.changelogs.map(topic => ({ ...topic, partitions: 4 })),
  }))
  expect(topologyDifferences(stored, wanted)).toEqual([])
  const [a, b] = stored
  const otherA = {
    ...a!,
    sourceTopics: ['orders', 'refunds'],
    changelogs: [{ ...a!.changelogs[0]!, configs: [['cleanup.policy', 'delete']] as const }],
  }
  expect(topologyDifferences([otherA, { ...b!, id: 'c' }], wanted)).toEqual([
    'new sub-topology b',
    'no sub-topology c',
    'new source topic payments',
    'no source topic refunds',
    'other settings of changelog app-s-changelog',
  ])
})

test('names that no topic can have are told before the broker would answer unclearly', () => {
  const [, second] = topology.subTopologies
  const bad = wireTopology({
    subTopologies: [
      { ...second!, repartitionSinks: [], changelogs: [{ name: 'a b', configs: {} }] },
    ],
  })
  expect(() => checkTopicNames(bad)).toThrow(/"a b" is no name of a Kafka topic/)
})
