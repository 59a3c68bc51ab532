/** One member against a script: what it sends, and what it tells the engine. */
import { expect, test } from 'vitest'
import { ErrorCode } from '../../../log/kafka/error-codes.ts'
import { NotSent, StreamsGroupMember } from '../../../log/kafka/streams-group-member.ts'
import type { HeartbeatReply, HeartbeatRequest } from '../../../log/kafka/streams-group-wire.ts'
import { type Assignment, noTasks } from '../../../log/membership.ts'
import { SimulatedProcess, SimulatedTime } from '../../support/streams-group/time.ts'

const SESSION_MS = 45_000
const INTERVAL_MS = 5_000

function active(...partitions: number[]): Assignment {
  return { ...noTasks, active: partitions.length === 0 ? {} : { s: partitions } }
}

type Answer = Partial<HeartbeatReply> | Error | 'never'

function reply(changes: Partial<HeartbeatReply>): HeartbeatReply {
  return {
    error: 0,
    message: null,
    memberEpoch: 1,
    heartbeatIntervalMs: INTERVAL_MS,
    statuses: [],
    assignment: null,
    endpointEpoch: 0,
    endpoints: null,
    ...changes,
  }
}

/** A member whose heartbeats get these answers in turn; later ones the last good epoch. */
function memberWith(...answers: readonly Answer[]) {
  const time = new SimulatedTime(1)
  const script = [...answers]
  const sent: HeartbeatRequest[] = []
  let epoch = 1
  const member = new StreamsGroupMember({
    group: 'g',
    memberId: 'm',
    environment: new SimulatedProcess(time).environment,
    sessionTimeoutMs: SESSION_MS,
    joining: {
      rackId: null,
      rebalanceTimeoutMs: 30_000,
      subTopologies: [],
      processId: 'p',
      endpoint: null,
      clientTags: {},
    },
    send: async request => {
      sent.push(request)
      const answer = script.shift() ?? { memberEpoch: epoch }
      if (answer === 'never') return new Promise(() => {})
      if (answer instanceof Error) throw answer
      if (answer.error === undefined) epoch = answer.memberEpoch ?? epoch
      return reply({ memberEpoch: epoch, ...answer })
    },
  })
  return { time, member, sent, later: (...more: readonly Answer[]) => script.push(...more) }
}

const refused = (error: number, message: string | null = null): Answer => ({
  error,
  message,
  memberEpoch: 0,
  heartbeatIntervalMs: 0,
})
const lost = new Error('timed out')

/** The tasks that each heartbeat said are owned; `-` where it said nothing. */
function reports(sent: readonly HeartbeatRequest[]): string {
  return sent
    .map(({ memberEpoch, owned }) => {
      const tasks = owned === null ? '-' : `{${owned.active.s ?? ''}}`
      return memberEpoch === 0 ? `join${tasks}` : tasks
    })
    .join(' ')
}

test('a join carries all fields, the heartbeats after it only what changed', async () => {
  const { time, member, sent } = memberWith({ memberEpoch: 3, assignment: active(0, 1) })
  await time.run(50)
  expect(sent[0]).toMatchObject({ memberEpoch: 0, owned: noTasks, joining: { processId: 'p' } })
  expect(member.target).toEqual(active(0, 1))
  expect(member.epoch).toBe(3)
  expect(member.status).toMatchObject({ state: 'stable', detail: '2 active and 0 standby tasks.' })
  member.own(active(0, 1))
  await time.run(1_000)
  expect(sent.slice(1).every(({ joining, memberEpoch }) => !joining && memberEpoch === 3)).toBe(
    true,
  )
  expect(reports(sent)).toBe('join{} {0,1} - - - -')
})

test('a revocation is acknowledged when the engine has given the task up, and then at once', async () => {
  const { time, member, sent, later } = memberWith({ assignment: active(0, 1) })
  await time.run(50)
  member.own(active(0, 1))
  later({}, { assignment: active(0) })
  await time.run(5_000)
  expect(member.target).toEqual(active(0))
  expect(reports(sent)).not.toContain('{0} ')
  const before = sent.length
  member.own(active(0))
  await time.run(1)
  expect(reports(sent.slice(before))).toBe('{0}')
})

test('a task taken away before the engine began it is acknowledged at once', async () => {
  const { time, member, sent } = memberWith({ assignment: active(0, 1) }, { assignment: active(0) })
  await time.run(205)
  expect(member.target).toEqual(active(0))
  expect(reports(sent)).toBe('join{} - {}')
})

test("heartbeats are fast while something changes, and at the group's interval at rest", async () => {
  const { time, member, sent } = memberWith({ assignment: active(0) })
  await time.run(50)
  member.own(active(0))
  await time.run(10_000)
  const fast = sent.length
  expect(fast).toBeGreaterThan(45)
  await time.run(20_000)
  expect(sent.length - fast).toBeLessThanOrEqual(5)
})

test('an error reply does not lend its epoch, and being fenced takes the target away', async () => {
  const { time, member, sent } = memberWith(
    { memberEpoch: 4, assignment: active(0) },
    refused(ErrorCode.FENCED_MEMBER_EPOCH, 'too old'),
    { memberEpoch: 6, assignment: active(1) },
  )
  await time.run(50)
  member.own(active(0))
  await time.run(3_000)
  expect(member.epoch).toBe(4)
  expect(member.target).toBeUndefined()
  expect(member.status).toMatchObject({
    state: 'fenced',
    detail: expect.stringContaining('FENCED_MEMBER_EPOCH (110): too old'),
  })
  expect(sent).toHaveLength(2)
  member.own(active(0))
  await time.run(1_000)
  expect(sent).toHaveLength(2)
  member.own(noTasks)
  await time.run(100)
  expect(reports(sent)).toBe('join{} {0} join{}')
  expect(member.target).toEqual(active(1))
  expect(member.epoch).toBe(6)
})

test('after a lost reply it joins again once the engine has settled, and keeps its tasks', async () => {
  const { time, member, sent } = memberWith({ assignment: active(0, 1) }, lost, {
    memberEpoch: 9,
    assignment: active(0),
  })
  await time.run(50)
  member.own(active(0, 1))
  await time.run(1_000)
  expect(member.settling).toBe(true)
  expect(member.target).toEqual(active(0, 1))
  expect(member.status.state).toBe('unreachable')
  expect(sent).toHaveLength(2)
  member.settled()
  await time.run(100)
  expect(reports(sent)).toBe('join{} {0,1} join{}')
  expect(member.settling).toBe(false)
  expect(member.target).toEqual(active(0))
  member.own(active(0))
  await time.run(1)
  expect(reports(sent.slice(3))).toBe('{0}')
})

test('an engine that does not settle is waited for an interval only', async () => {
  const { time, member, sent } = memberWith({ assignment: active(0) }, lost)
  await time.run(50)
  member.own(active(0))
  await time.run(4_000)
  expect(sent).toHaveLength(2)
  await time.run(INTERVAL_MS)
  expect(reports(sent).startsWith('join{} {0} join{}')).toBe(true)
})

test('a lost join can hide that tasks went and came back: another epoch drops them', async () => {
  const { time, member, sent } = memberWith({ assignment: active(0) }, lost, lost, {
    memberEpoch: 7,
    assignment: active(0),
  })
  await time.run(50)
  member.own(active(0))
  await time.run(1_000)
  member.settled()
  await time.run(200)
  expect(reports(sent)).toBe('join{} {0} join{} join{}')
  expect(member.status.state).toBe('fenced')
  expect(member.target).toBeUndefined()
  member.own(noTasks)
  expect(member.target).toEqual(active(0))
  expect(member.status.state).toBe('stable')
})

test('the same epoch after lost joins proves that nothing moved', async () => {
  const { time, member } = memberWith({ memberEpoch: 2, assignment: active(0) }, lost, lost, {
    memberEpoch: 2,
    assignment: active(0),
  })
  await time.run(50)
  member.own(active(0))
  await time.run(1_000)
  member.settled()
  await time.run(200)
  expect(member.target).toEqual(active(0))
  expect(member.status.state).toBe('stable')
})

test('who joins again after the session timeout may have been replaced meanwhile', async () => {
  const refusals = Array.from({ length: 60 }, () => new NotSent('connection refused'))
  const { time, member, later } = memberWith({ memberEpoch: 2, assignment: active(0) }, lost)
  later(...refusals, { memberEpoch: 2, assignment: active(0) })
  await time.run(50)
  member.own(active(0))
  await time.run(1_000)
  member.settled()
  await time.run(SESSION_MS)
  expect(member.alive).toBe(false)
  expect(member.target).toEqual(active(0))
  await time.run(600_000)
  expect(member.status.state).toBe('fenced')
  expect(member.target).toBeUndefined()
})

test('a heartbeat that certainly was not sent is simply sent again', async () => {
  const { time, member, sent } = memberWith({ assignment: active(0) }, new NotSent('refused'))
  await time.run(50)
  member.own(active(0))
  await time.run(300)
  expect(reports(sent)).toBe('join{} {0} {0}')
  expect(member.settling).toBe(false)
  expect(member.status.state).toBe('stable')
})

test('a task that a rejoin released comes back only after the engine gave it up', async () => {
  const { time, member, later } = memberWith({ assignment: active(0, 1) }, lost)
  later({ memberEpoch: 2, assignment: active(0) }, { memberEpoch: 3, assignment: active(0, 1) })
  await time.run(50)
  member.own(active(0, 1))
  await time.run(1_000)
  member.settled()
  await time.run(1_000)
  expect(member.target).toEqual(active(0))
  expect(member.epoch).toBe(1)
  member.own(active(0))
  expect(member.target).toEqual(active(0, 1))
  expect(member.epoch).toBe(3)
})

test('without a good reply for the session timeout it is not alive, and says so', async () => {
  const { time, member, later } = memberWith({ assignment: active(0) })
  later(...Array.from({ length: 1_000 }, () => new NotSent('connection refused')))
  let changes = 0
  await time.run(50)
  member.own(active(0))
  expect(member.alive).toBe(true)
  await time.run(SESSION_MS - 100)
  expect(member.alive).toBe(true)
  member.onChange(() => changes++)
  await time.run(100)
  expect(member.alive).toBe(false)
  expect(changes).toBeGreaterThan(0)
  expect(member.status).toMatchObject({ state: 'unreachable' })
})

test('statuses of the group become errors of the catalogue', async () => {
  const missing = [{ code: 1, detail: 'Source topics a, b are missing.' }]
  const { time, member } = memberWith(
    { statuses: missing, assignment: noTasks },
    { statuses: [{ code: 2, detail: 'a has 4, b has 3' }] },
    { statuses: [{ code: 3, detail: 'Internal topics are missing: c' }] },
    { statuses: [{ code: 5, detail: 'Assignment delayed' }] },
    { statuses: [{ code: 4, detail: 'Shutdown requested by x' }], assignment: active(0) },
  )
  const seen: string[] = []
  const look = () => {
    const { state, error, shutdownRequested } = member.status
    seen.push(`${state} ${error?.code ?? '-'} ${shutdownRequested ? 'shutdown' : '-'}`)
  }
  member.onChange(look)
  await time.run(3_000)
  expect(seen).toEqual([
    'waiting GROUP_SOURCES_MISSING -',
    'waiting GROUP_PARTITIONS_DIFFER -',
    'waiting GROUP_TOPICS_MISSING -',
    'waiting - -',
    'stable - shutdown',
    'stable - -',
  ])
})

test.each([
  [ErrorCode.INVALID_REQUEST, 'Topology updates are not supported yet.', 'GROUP_TOPOLOGY_DIFFERS'],
  [ErrorCode.INVALID_REQUEST, 'something else', 'GROUP_REFUSED'],
  [ErrorCode.STREAMS_INVALID_TOPOLOGY, 'Changelog', 'GROUP_TOPOLOGY_INVALID'],
  [ErrorCode.GROUP_ID_NOT_FOUND, 'Group g is not a streams group.', 'GROUP_OF_OTHER_KIND'],
  [ErrorCode.GROUP_AUTHORIZATION_FAILED, null, 'KAFKA_FORBIDDEN'],
])('a join refused with %i %s is final', async (code, message, expected) => {
  const { time, member, sent } = memberWith(refused(code, message))
  await time.run(20_000)
  expect(sent).toHaveLength(1)
  expect(member.status).toMatchObject({ state: 'failed', error: { code: expected } })
  expect(member.target).toBeUndefined()
  expect(member.alive).toBe(false)
})

test.each([
  ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
  ErrorCode.COORDINATOR_NOT_AVAILABLE,
  ErrorCode.NOT_COORDINATOR,
  ErrorCode.UNKNOWN_SERVER_ERROR,
])('an answer with code %i leaves open what the coordinator did: it joins again', async code => {
  const { time, member, sent } = memberWith({ assignment: active(0) }, refused(code))
  await time.run(50)
  member.own(active(0))
  await time.run(500)
  expect(member.settling).toBe(true)
  member.settled()
  await time.run(100)
  expect(reports(sent)).toBe('join{} {0} join{}')
})

test('a request to shut down is repeated until it was heard', async () => {
  const { time, member, sent } = memberWith({ assignment: noTasks }, lost)
  await time.run(50)
  member.requestShutdown()
  await time.run(1_000)
  const asked = sent.map(({ shutdown }) => (shutdown ? 'x' : '-')).join('')
  expect(asked.startsWith('-xx-')).toBe(true)
})

test('leaving says epoch -1, tries again after a lost reply, and is the end', async () => {
  const { time, member, sent, later } = memberWith({ assignment: active(0) })
  await time.run(50)
  member.own(active(0))
  member.own(noTasks)
  later(lost)
  const left = member.leave()
  await time.run(1_000)
  await left
  expect(sent.slice(1).map(({ memberEpoch }) => memberEpoch)).toEqual([-1, -1])
  expect(member.status.state).toBe('left')
  expect(member.target).toBeUndefined()
  await time.run(60_000)
  expect(sent).toHaveLength(3)
})

test('leaving waits for a group that does not answer only so long', async () => {
  const { time, member, later } = memberWith({ assignment: active(0) })
  await time.run(50)
  later('never')
  let isOver = false
  void member.leave().then(() => {
    isOver = true
  })
  await time.run(4_900)
  expect(isOver).toBe(false)
  await time.run(200)
  expect(isOver).toBe(true)
  expect(member.status.state).toBe('left')
})

test('a member that remains says nothing, and is silent from then on', async () => {
  const { time, member, sent } = memberWith({ assignment: active(0) })
  await time.run(50)
  member.own(active(0))
  await member.leave('remain')
  await time.run(60_000)
  expect(sent).toHaveLength(1)
  expect(member.status.state).toBe('left')
  expect(member.alive).toBe(false)
})

test('a member that nobody ever answered leaves without a word', async () => {
  const { time, member, sent } = memberWith(new NotSent('refused'))
  await time.run(1)
  const left = member.leave()
  await time.run(1_000)
  await left
  expect(sent.every(({ memberEpoch }) => memberEpoch === 0)).toBe(true)
})

test('a refused commit makes it ask at once', async () => {
  const { time, member, sent } = memberWith({ assignment: active(0) })
  await time.run(50)
  member.own(active(0))
  await time.run(30_000)
  const before = sent.length
  member.confirm()
  await time.run(1)
  expect(sent).toHaveLength(before + 1)
})
