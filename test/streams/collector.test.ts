import { expect, test } from 'vitest'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { Aside } from '../../streams/aside.ts'
import type { Assembly } from '../../streams/assembly.ts'
import { Collector } from '../../streams/collector.ts'
import { defaultSettings } from '../../streams/environment.ts'
import { Retries } from '../../streams/retries.ts'
import { text, textKey } from '../../streams/serde.ts'
import { SourcePartition } from '../../streams/source-partition.ts'
import { NodeRuntime } from '../../streams/task.ts'
import type { SourceNode } from '../../streams/topology.ts'

const hourMs = 3_600_000
const node = { id: 0, topic: 'orders', key: textKey(), value: text() } as unknown as SourceNode

/** Partitions that hold records at these times, and the rounds that a collector makes of them. */
function roundsOf(partitions: readonly (readonly number[])[]): number[][][] {
  let round: number[][] = []
  const refuse = () => {
    throw new Error('nothing is to be refused')
  }
  const inputs = partitions.map((times, partition) => {
    const runtime = new NodeRuntime(node, undefined, 1)
    runtime.receive = batch => {
      round[partition] = [...batch.times]
    }
    const refusals = { failed: refuse, reject: refuse, rejectBatch: refuse }
    const retries = new Retries(() => 0)
    const aside = new Aside({} as never)
    const none = new Set<number>()
    const towards = () => ({ targets: none, nodes: none, home: undefined })
    const own = { application: 'test', towards, refusals, retries, aside }
    const source = new SourcePartition({ index: partition, node, partition, runtime, ...own })
    const builder = new RecordBatchBuilder()
    for (const time of times) builder.append(time, null, bytesOf('x'))
    const { runs, nextOffset } = decodeBatches(builder.finish(), { fromOffset: 0 })
    for (const columns of runs) source.offer(columns, nextOffset)
    return source
  })
  const collector = new Collector({
    assembly: { inputs } as unknown as Assembly,
    log: {} as EventLog,
    settings: defaultSettings,
    clock: () => Date.UTC(2026, 0, 1),
  })
  const rounds: number[][][] = []
  while (collector.collect()) {
    rounds.push(partitions.map((_, i) => round[i] ?? []))
    round = []
  }
  return rounds
}

function bytesOf(value: string) {
  const bytes = Buffer.from(value)
  return { bytes, start: 0, end: bytes.length }
}

const every = (stepMs: number, count: number, fromMs = 0) =>
  Array.from({ length: count }, (_, i) => fromMs + i * stepMs)

test('a sparse backlog is not read a record a round', () => {
  const rounds = roundsOf([every(hourMs, 5000), every(hourMs, 5000, 1000)])
  expect(rounds.flat(2).length).toBe(10_000)
  expect(rounds.length).toBeLessThan(40)
})

test('after a sparse stretch a dense one is read near the slowest partition again', () => {
  const denseMs = 1000 * hourMs
  const sparse = every(hourMs, 1000)
  const left = [...sparse, ...every(10, 100_000, denseMs)]
  const right = [...sparse, ...every(20, 50_000, denseMs)]
  const rounds = roundsOf([left, right])
  const reached = [0, 0]
  for (const round of rounds) {
    round.forEach((part, i) => {
      reached[i] = part.at(-1) ?? reached[i]
    })
    // The first rounds of the dense stretch still look as far as the sparse one asked for.
    if (Math.min(...reached) < denseMs + 300_000) continue
    expect(Math.abs(reached[0] - reached[1])).toBeLessThan(30_000)
  }
  expect(Math.min(...reached)).toBe(denseMs + 999_980)
})

test('a partition far ahead waits for the others', () => {
  const rounds = roundsOf([every(10, 3000), every(10, 3000, 40 * 24 * hourMs)])
  const firstOfAhead = rounds.findIndex(([, ahead]) => ahead.length > 0)
  const lastOfBehind = rounds.findLastIndex(([behind]) => behind.length > 0)
  expect(firstOfAhead).toBeGreaterThan(lastOfBehind)
})
