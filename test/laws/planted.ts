/** Bugs to plant, one a law of the engine: the tests named must then fail. */
import type { PlantedBug } from './plant.ts'

const shop = 'test/oracle/shop.test.ts'
const windows = 'test/streams/operators/window-aggregate.test.ts'
const tables = 'test/streams/operators/tables.test.ts'
const join = 'test/streams/operators/stream-join.test.ts'
const asOf = 'test/streams/operators/as-of-join.test.ts'
const foreignKeys = 'test/streams/operators/foreign-key-join.test.ts'
const globalTables = 'test/streams/operators/global-join.test.ts'
const versioned = 'test/streams/operators/versioned-aggregate.test.ts'
const retries = 'test/streams/retries.test.ts'
const letters = 'test/streams/dead-letter-admin.test.ts'
const chains = 'test/streams/chains.test.ts'
const engine = 'test/streams/engine.test.ts'
const group = 'test/streams/group.test.ts'
const exchange = 'test/cluster/exchange.test.ts'
const progress = 'test/cluster/progress.test.ts'
const positions = 'test/cluster/positions.test.ts'
const clusterSteps = 'test/cluster/operators.test.ts'
const clusterChains = 'test/cluster/chains.test.ts'
const replay = 'test/state/changelog-replay.test.ts'
const closing = 'test/streams/closing.test.ts'
const branches = 'test/streams/branches.test.ts'
const replayed = 'test/streams/replayed-once.test.ts'
const deployments = 'test/oracle/deployments.test.ts'
const clusterDeployments = 'test/cluster/deployments.test.ts'

export const plantedBugs: readonly PlantedBug[] = [
  {
    rule: 'law 1: event time is state, loaded before the first record',
    file: 'streams/event-time.ts',
    find: '  async load(): Promise<void> {\n',
    replace: '  async load(): Promise<void> {\n    return\n',
    tests: [windows],
  },
  {
    rule: 'law 1: a timestamp far ahead of the clock moves nothing',
    file: 'streams/source-partition.ts',
    find: 'if (timeMs > latestMs) {',
    replace: 'if (timeMs > latestMs * 1e6 + 1e15) {',
    tests: [engine],
  },
  {
    rule: 'law 1.1: late is decided by the own source partition, not by the task that received it',
    file: 'streams/operators/window-aggregate.ts',
    find: 'const bound = Math.max(input.streamTimes[i]!, watermarkMs)',
    replace: 'const bound = input.streamTimes.reduce((a, b) => Math.max(a, b), watermarkMs)',
    tests: [shop, windows],
  },
  {
    rule: 'law 1.1: closing by the minimum watermark, not by the fastest input',
    file: 'streams/watermark.ts',
    find: 'const next = this.#allIdle ? latest : active',
    replace: 'const next = latest',
    tests: [shop, windows],
  },
  {
    rule: 'law 6: an input not yet heard holds the watermark',
    file: 'streams/watermark.ts',
    find: 'if (this.#idle[i] === 0 && time < active) active = time',
    replace: 'if (this.#idle[i] === 0 && time > -Infinity && time < active) active = time',
    tests: [shop],
  },
  {
    rule: 'law 7: a partition with unread records is not idle',
    file: 'streams/collector.ts',
    find: '      if (!source.atEnd) {\n',
    replace: '      if (source.fetchOffset < 0) {\n',
    and: {
      find: 'if (source.confirmedMs - source.atEndSinceMs < settings.idleAfterMs)',
      replace: 'if (now - source.atEndSinceMs < settings.idleAfterMs)',
    },
    tests: [engine],
  },
  {
    rule: 'law 8: a step that emits on close holds its watermark back',
    file: 'streams/operators/window-aggregate.ts',
    find: 'return watermarkMs - this.#spec.windows.sizeMs - this.#spec.windows.graceMs',
    replace: 'return watermarkMs',
    tests: [chains],
  },
  {
    rule: 'law 8: time-dependent steps below emit-on-update are refused',
    file: 'streams/plan.ts',
    find: 'if (updates[parent.id]) {',
    replace: 'if (updates[parent.id] && parent.id < 0) {',
    tests: [chains],
  },
  {
    rule: 'law 9: a pair joins by the stream times of both, whichever comes last',
    file: 'streams/operators/stream-join.ts',
    find: 'if (earliest < Math.max(now.boundMs, row.streamTimeMs)) return',
    replace: 'if (earliest < now.boundMs) return',
    tests: [join],
  },
  {
    rule: 'law 9: a stored row keeps its stream time',
    file: 'state/append-format.ts',
    find: '    row.streamTimeMs += varlong(bytes)\n',
    replace: '',
    tests: [shop],
  },
  {
    rule: 'law 9: a side drops a row when the watermark is greater than time + reach + grace, not at it',
    file: 'streams/operators/stream-join.ts',
    find: 'const end = encodeTime(watermarkMs)',
    replace: 'const end = encodeTime(watermarkMs + 1)',
    tests: [join],
  },
  {
    rule: 'law 8: a join whose results take the right time holds the watermark for waiting rows',
    file: 'streams/operators/stream-join.ts',
    find: 'return Math.min(watermarkMs - holdMs, waiting)',
    replace: 'return Math.min(watermarkMs - holdMs, waiting > 0 ? watermarkMs : waiting)',
    tests: [join],
  },
  {
    rule: 'law 13: a row without partner is settled at its first match',
    file: 'streams/operators/stream-join.ts',
    find: '    const waiting = this.#pending!.get(row)\n    if (waiting === undefined) return',
    replace: '    const waiting = this.#pending!.get(row)\n    if (waiting !== null) return',
    tests: [shop],
  },
  {
    rule: 'law 13: how far a large close has come is committed',
    file: 'streams/event-time.ts',
    find: '        runtime.closing = own.closing\n',
    replace: '',
    tests: [closing],
  },
  {
    rule: 'law 13: what is still to be closed is not overtaken by the forwarded watermark',
    file: 'streams/task.ts',
    find: 'const closedMs = closing?.closedMs ?? watermark.timeMs',
    replace: 'const closedMs = watermark.timeMs',
    tests: [closing],
  },
  {
    rule: 'law 13: an epoch closes no more than a step',
    file: 'streams/closing.ts',
    find: 'limit: rowsMax + 1',
    replace: 'limit: rowsMax * 100',
    and: { find: 'rows.length > rowsMax ? rows.pop()', replace: 'rows.length < 0 ? rows.pop()' },
    tests: [closing],
  },
  {
    rule: 'law 14: an epoch whose commit failed is dropped with the one that ran over it',
    file: 'streams/engine.ts',
    find: '        await this.#assemble()\n        break\n',
    replace: '        break\n',
    tests: [engine],
  },
  {
    rule: 'law 16: a record joined as of its time waits until the table has passed it',
    file: 'streams/operators/as-of-join.ts',
    find: 'const beforeMs = watermarkMs - this.#spec.graceMs',
    replace: 'const beforeMs = watermarkMs + 1e9',
    tests: [asOf],
  },
  {
    rule: 'law 16: a row that comes too late holds from its stream time on, not from its own',
    file: 'streams/operators/as-of-join.ts',
    find: 'const sinceMs = Math.max(input.times[i]!, this.#boundMs(input, i) - graceMs)',
    replace: 'const sinceMs = input.times[i]!',
    tests: [asOf],
  },
  {
    rule: 'law 16: an answer for an older version of a row replaces none for a newer one',
    file: 'streams/operators/foreign-key-result.ts',
    find: 'version < before.offset',
    replace: 'version < 0',
    tests: [foreignKeys, clusterSteps],
  },
  {
    rule: 'law 16: the last write of a re-keyed table is the same one in any order of arrival',
    file: 'streams/operators/table.ts',
    find: "spec.order === 'time' && isBefore(next, before)",
    replace: "spec.order === 'time' && isBefore(next, next)",
    tests: [tables],
  },
  {
    rule: 'law 19: a query reads one cut',
    file: 'streams/publisher.ts',
    find: 'committedRows({ name, partition, codec: spec.codec, reader })',
    replace:
      'committedRows({ name, partition, codec: spec.codec, reader: this.#options.database })',
    tests: [engine],
  },
  {
    rule: 'foreign keys: a row that refers to another one leaves the one before',
    file: 'streams/operators/foreign-key-subscribe.ts',
    find: 'if (old !== null && old !== foreign) {',
    replace: 'if (old !== null && old === undefined) {',
    tests: [foreignKeys],
  },
  {
    rule: 'foreign keys: a change of the other table reaches all rows that refer to it',
    file: 'streams/operators/foreign-key-join.ts',
    find: 'for (const { value } of rows) found.push(value)',
    replace: 'for (const { value } of rows.slice(0, 1)) found.push(value)',
    tests: [foreignKeys],
  },
  {
    rule: 'foreign keys: an older version is known as such though its row is gone',
    file: 'streams/operators/foreign-key-subscribe.ts',
    find: 'references.put(key, { version, foreign })',
    replace:
      'if (isNull(value)) references.delete(key)\n        else references.put(key, { version, foreign })',
    tests: [foreignKeys, clusterSteps],
  },
  {
    rule: 'global tables: each task has all rows',
    file: 'streams/exchange-router.ts',
    find: 'for (let target = 0; target < targets; target++) put(i, target)',
    replace: 'put(i, partitionOfKey(node.key, batch.keys[i], targets))',
    tests: [globalTables],
  },
  {
    rule: 'global tables: a table adds nothing to the time of the stream',
    file: 'streams/global-table.ts',
    find: 'passivePorts: [1],',
    replace: 'passivePorts: [],',
    tests: [globalTables],
  },
  {
    rule: 'law 16: a record that comes late changes all versions after it',
    file: 'streams/versioned-row.ts',
    find: 'if (isLast && this.#value !== UNKNOWN',
    replace: 'if (this.#value !== UNKNOWN',
    tests: [versioned],
  },
  {
    rule: 'versions: as of a time, what happened at that time counts',
    file: 'streams/versioned-row.ts',
    find: 'findLastIndex(record => record.timeMs <= timeMs)',
    replace: 'findLastIndex(record => record.timeMs < timeMs)',
    tests: [versioned],
  },
  {
    rule: 'versions: what is before the history is no answer',
    file: 'streams/versioned-row.ts',
    find: 'if (this.#base !== undefined && timeMs < this.#base.timeMs) {',
    replace: 'if (this.#base !== undefined && timeMs < 0) {',
    tests: [versioned],
  },
  {
    rule: 'versions: a record before the history is late by its own partition',
    file: 'streams/operators/versioned-aggregate.ts',
    find: 'if (timeMs + historyMs < Math.max(input.streamTimes[i]!, watermarkMs)) {',
    replace: 'if (timeMs + historyMs < watermarkMs) {',
    tests: [versioned],
  },
  {
    rule: 'dead letters: a record is tried so often, and no more',
    file: 'streams/retries.ts',
    find: 'if (attempts >= policy.attempts && !isPending(error)) return attempts',
    replace: 'if (attempts > policy.attempts && !isPending(error)) return attempts',
    tests: [retries],
  },
  {
    rule: 'dead letters: an error that does not pass is not tried again',
    file: 'streams/retries.ts',
    find: 'if (!isRetriable(error)) return attempts\n',
    replace: '',
    tests: [retries],
  },
  {
    rule: 'dead letters: a letter tells how often its record was tried',
    file: 'streams/dead-letters.ts',
    find: 'stack: stackDigest(error), attempts }',
    replace: 'stack: stackDigest(error), attempts: 1 }',
    tests: [retries],
  },
  {
    rule: 'dead letters: whoever replays has read all marks before',
    file: 'streams/dead-letter-admin.ts',
    find: '        if (!(await this.#marks.refresh({ all: true }))) break\n        return await this.#write',
    replace: '        return await this.#write',
    tests: [letters],
  },
  {
    rule: 'dead letters: a replayed record is for the step that had put it aside',
    file: 'streams/replay-steps.ts',
    find: 'if (towards.has(id)) for (const { node } of parents) towards.add(node)',
    replace: 'towards.add(id)\n    for (const { node } of parents) towards.add(node)',
    tests: [letters],
  },
  {
    rule: 'dead letters: a mark is for the letter that it was made of',
    file: 'streams/dead-letter-admin.ts',
    find: 'known?.letterAtMs === letter.atMs ? known : undefined',
    replace: 'known',
    tests: [letters],
  },
  // What follows concerns several instances.
  {
    rule: 'law 1: event time moves with its task, or finals come twice',
    file: 'streams/event-time.ts',
    find: '  async load(): Promise<void> {\n',
    replace: '  async load(): Promise<void> {\n    return\n',
    tests: [clusterSteps],
  },
  {
    rule: 'law 1: what upstream tasks have told is event time too',
    file: 'streams/event-time.ts',
    find: "if (node.kind === 'exchange') return 'x'",
    replace: "if (node.kind === 'exchange') return undefined",
    tests: [clusterSteps],
  },
  {
    rule: 'law 2: a commit names the epoch at which the transaction began',
    file: 'streams/epoch-runner.ts',
    find: 'wallTimeMs: clock(), member })',
    replace: 'wallTimeMs: clock(), member: this.#options.member() })',
    tests: [group],
  },
  {
    rule: 'law 2: every task that wrote has an offset, moved or not',
    file: 'streams/epoch.ts',
    find: 'return assembly.inputs.map(({ positions',
    replace: 'return assembly.inputs.filter(one => one.position > 0).map(({ positions',
    tests: [group],
  },
  {
    rule: 'law 2: a transaction begins only when the group has been followed',
    file: 'streams/epoch-runner.ts',
    find: 'if (!mayBegin() || heldMs() > 0) return false',
    replace: 'if (heldMs() > 0) return false',
    tests: [group],
  },
  {
    rule: 'law 3: offsets until they are stable, then the state',
    file: 'streams/task-parts.ts',
    find: `  const offsets = startOffsets(log, plan.topology.application, reads)
  const checked = checkInternalTopics(log, internalTopics(options, id))
  const [starts] = await unlessAborted(Promise.all([offsets, checked]), signal)
  const stores = await openStores(options, id)
  await restoreStores(options, id, stores)
`,
    replace: `  const stores = await openStores(options, id)
  await restoreStores(options, id, stores)
  const offsets = startOffsets(log, plan.topology.application, reads)
  const checked = checkInternalTopics(log, internalTopics(options, id))
  const [starts] = await unlessAborted(Promise.all([offsets, checked]), signal)
`,
    tests: [group],
  },
  {
    rule: 'law 3: a restore ends at the high watermark, not at the last stable offset',
    file: 'state/changelog-replay.ts',
    find: 'const { startOffset, highWatermark } = range!',
    replace: 'const { startOffset, endOffset: highWatermark } = range!',
    tests: [replay],
  },
  {
    rule: 'law 4: what is not committed as read is not trimmed',
    file: 'streams/epoch-runner.ts',
    find: '    const sealed = sealEpoch(',
    replace:
      '    if (trimPoints !== undefined) this.#trim.trim(trimPoints)\n    const sealed = sealEpoch(',
    tests: [exchange],
  },
  {
    rule: 'law 5: an edge goes in memory when its topic is drained',
    file: 'streams/epoch-runner.ts',
    find: 'if (!(await this.#drain(node, inputs))) {',
    replace: 'if (inputs.length === 0) {',
    tests: [exchange],
  },
  {
    rule: 'law 5: what a drain passes on in memory is committed with it',
    file: 'streams/epoch-runner.ts',
    find: 'task => below.has(task.subTopology)',
    replace: 'task => below.has(task.subTopology) && task.has(node.id)',
    tests: [group],
  },
  {
    rule: 'law 6: a watermark does not overtake records that take the topic',
    file: 'streams/exchange-router.ts',
    find: 'if (!memory[from * receivers.length + target]) continue',
    replace: 'if (receivers[target] === undefined) continue',
    tests: [clusterSteps, clusterChains],
  },
  {
    rule: 'law 6: partitions that got no record are told too',
    file: 'streams/exchange-router.ts',
    find: '(!all && !wrote[edge])',
    replace: '!wrote[edge]',
    tests: [progress],
  },
  {
    rule: 'law 6: an idle application has told its last',
    file: 'streams/exchange-router.ts',
    find: 'this.#owes = owes\n',
    replace: 'this.#owes = false\n',
    tests: [progress, positions],
  },
  {
    rule: 'law 7: silence of upstream tasks is not idleness',
    file: 'streams/watermark.ts',
    find: 'this.#idle = new Uint8Array(inputs)',
    replace: 'this.#idle = new Uint8Array(inputs).fill(inputs > 1 ? 1 : 0)',
    tests: [clusterSteps],
  },
  {
    rule: 'law 8: what is held back is held back on the way to other instances',
    file: 'streams/operators/window-aggregate.ts',
    find: 'return watermarkMs - this.#spec.windows.sizeMs - this.#spec.windows.graceMs',
    replace: 'return watermarkMs',
    tests: [clusterChains],
  },
  {
    rule: 'law 15: a task is given up only after its last epoch is settled',
    file: 'streams/engine.ts',
    find: '    if (this.#manager.due) {\n      await this.#runner.settle()\n',
    replace: '    if (this.#manager.due) {\n',
    tests: [group],
  },
  {
    rule: 'law 15: nothing is committed once the session is over',
    file: 'streams/epoch-runner.ts',
    find: '    // It may have run out while the epoch ran.\n    this.#options.member()\n',
    replace: '',
    tests: [group],
  },
  {
    rule: 'law 15: no view answers once the session is over',
    file: 'streams/local-views.ts',
    find: 'if (membership.alive && membership.target !== undefined) return undefined',
    replace: 'if (membership !== undefined) return undefined',
    tests: [group],
  },
  {
    rule: 'law 17: a cut with remote edges does not claim to be consistent',
    file: 'streams/assembly.ts',
    find: 'return tasks === this.#tasks.length && this.router.local',
    replace: 'return tasks > 0',
    tests: [positions],
  },
  {
    rule: 'law 18: a position waits for every edge of every exchange',
    file: 'streams/assembly.ts',
    find: 'const offset = told?.get(source) ?? UNHEARD',
    replace: 'const offset = told?.get(source) ?? 2 ** 52',
    tests: [positions],
  },
  {
    rule: 'law 2: a branch commits how far it has read in the transaction of its state',
    file: 'streams/epoch.ts',
    find: '  return assembly.inputs.map(({ positions',
    replace: '  return assembly.inputs.filter(one => one.branch === 0).map(({ positions',
    tests: [deployments, clusterDeployments],
  },
  {
    rule: 'branches: lineage is read from what is there, not assumed',
    file: 'streams/lineage.ts',
    find: 'if (begun.length > 0) lineage.set(node.id, Math.max(...begun))',
    replace: 'if (begun.includes(0)) lineage.set(node.id, 0)',
    tests: [branches],
  },
  {
    rule: 'branches: a copy of a step does not report what the step reports',
    file: 'streams/task.ts',
    find: '    if (tells(node, this.#towards, target)) {\n',
    replace: '    {\n',
    tests: [branches, deployments],
  },
  {
    rule: 'dead letters: a replayed record counts where it is missing alone',
    file: 'streams/aside.ts',
    find: '!this.#isOfThisRun(batch, i)',
    replace: 'false',
    tests: [replayed],
  },
  {
    rule: 'dead letters: a record comes back once, however many letters are of it',
    file: 'streams/aside.ts',
    find: 'noted ? noted.idle',
    replace: 'noted ? false',
    tests: [replayed],
  },
  {
    rule: 'dead letters: a copy of a step keeps what it has put aside',
    file: 'streams/task.ts',
    find: "reason !== 'duplicate' && step === own",
    replace: 'node.copy !== true && step === own',
    tests: [replayed],
  },
  {
    rule: 'branches: a source that is read twice refuses a record once',
    file: 'streams/source-partition.ts',
    find: 'if (tells(this.node, this.towards, step)) this',
    replace: 'this',
    tests: [branches],
  },
  {
    rule: 'branches: none waits for the event time of another',
    file: 'streams/collector.ts',
    find: 'for (const branch of new Set(ready.map(input => input.branch))) {\n      const its = ready.filter(input => input.branch === branch)',
    replace: 'for (const branch of new Set([0])) {\n      const its = ready',
    tests: [branches],
  },
  {
    rule: 'branches: none waits for what another has to close',
    file: 'streams/epoch-runner.ts',
    find: 'inputs.filter(({ branch }) => !closing.has(branch))',
    replace: '[]',
    tests: [branches],
  },
  {
    rule: 'law 13: a branch closes one step an epoch, whatever the others do',
    file: 'streams/epoch-runner.ts',
    find: 'if (round > 0 && closing.has(task.subTopology.branch)) continue',
    replace: '',
    tests: [branches],
  },
  {
    rule: 'law 17: branches that have not come equally far are no one cut',
    file: 'streams/assembly.ts',
    find: 'return other === position',
    replace: 'return true',
    tests: [branches],
  },
  {
    rule: 'branches: a step that was away while its task read on is noticed',
    file: 'streams/task-parts.ts',
    find: '  await checkAdded(options, id, eventTime)\n',
    replace: '',
    tests: [branches],
  },
  {
    rule: 'law 1: steps with state do not part from their event time',
    file: 'streams/engine.ts',
    find: '    await checkTogether(log, plan)\n',
    replace: '',
    tests: [branches],
  },
  {
    rule: 'branches: a step does not go on below one that has just begun',
    file: 'streams/lineage.ts',
    find: "  if (newState === 'beginning') checkAbove(topology, lineage, facts)\n",
    replace: '',
    tests: [branches],
  },
  {
    rule: 'branches: an exchange that was away while its task read on is noticed',
    file: 'streams/event-time.ts',
    find: "if (key.startsWith('e')) this.#put(key, { timeMs: 0, idle: true })",
    replace: "if (key.startsWith('e')) this.#put(key, { timeMs: 0, idle: false })",
    tests: [branches],
  },
]
