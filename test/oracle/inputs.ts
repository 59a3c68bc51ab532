/** Inputs of the proofs: records of several partitions that differ in pace and disorder. */
import type { Random } from '../support/random.ts'

/** A record of an input topic; inputs are in append order, by partition as they arrive. */
export interface Input {
  readonly topic: string
  readonly partition: number
  readonly key: unknown
  readonly value: unknown
  readonly timeMs: number
  readonly headers?: Readonly<Record<string, string>>
}

/** An input with its place in its partition and the stream time it has there. */
export interface Stamped extends Input {
  readonly offset: number
  readonly streamTimeMs: number
}

export interface DisorderOptions {
  readonly topics?: readonly string[]
  readonly partitions: number
  readonly count: number
  /** Event time between one record and the next. */
  readonly stepMs: number
  /** Records arrive up to this much out of order, and some later still. */
  readonly delayMs: number
  readonly record: (
    random: Random,
    place: { i: number; partition: number },
  ) => Pick<Input, 'key' | 'value' | 'headers'>
  /** A last record of each partition, so that every watermark gets as far. */
  readonly end: { readonly timeMs: number; readonly value: unknown }
}

/**
 * Records at random times around `i * stepMs`. Partition 0 is read in order, 1 is sparse, the
 * others are out of order; one record in thirty comes several delays late.
 */
export function disordered(random: Random, options: DisorderOptions): Input[] {
  const { topics = ['events'], partitions, count, stepMs, delayMs, end } = options
  const arrivals: { input: Input; arrivalMs: number }[] = []
  for (let i = 0; i < count; i++) {
    const topic = random.pick(topics)
    const drawn = random.below(partitions)
    const partition = drawn === 1 && random.below(4) > 0 ? 0 : drawn
    const timeMs = i * stepMs + random.below(stepMs + 1)
    const late = partition > 0 && random.below(30) === 0 ? 2 * delayMs + random.below(delayMs) : 0
    const arrivalMs = timeMs + (partition > 0 ? random.below(delayMs + 1) : 0) + late
    const record = options.record(random, { i, partition })
    arrivals.push({ input: { topic, partition, timeMs, ...record }, arrivalMs })
  }
  arrivals.sort((a, b) => a.arrivalMs - b.arrivalMs)
  const inputs = arrivals.map(({ input }) => input)
  for (const topic of topics) {
    for (let partition = 0; partition < partitions; partition++) {
      inputs.push({ topic, partition, key: `end-${topic}-${partition}`, ...end })
    }
  }
  return inputs
}

/** All records in the order of their order keys (timestamp, topic, partition, offset). */
export function stamp(inputs: readonly Input[]): Stamped[] {
  const partitions = new Map<string, { offset: number; streamTimeMs: number }>()
  const stamped = inputs.map(input => {
    const id = `${input.topic}/${input.partition}`
    const before = partitions.get(id) ?? { offset: -1, streamTimeMs: Number.NEGATIVE_INFINITY }
    const place = {
      offset: before.offset + 1,
      streamTimeMs: Math.max(before.streamTimeMs, input.timeMs),
    }
    partitions.set(id, place)
    return { ...input, ...place }
  })
  const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  return stamped.sort(
    (a, b) =>
      a.timeMs - b.timeMs ||
      order(a.topic, b.topic) ||
      a.partition - b.partition ||
      a.offset - b.offset,
  )
}

/** The watermark once everything is read: the smallest stream time of all partitions. */
export function finalWatermark(inputs: readonly Input[]): number {
  const latest = new Map<string, number>()
  for (const { topic, partition, timeMs } of inputs) {
    const id = `${topic}/${partition}`
    latest.set(id, Math.max(latest.get(id) ?? Number.NEGATIVE_INFINITY, timeMs))
  }
  return Math.min(...latest.values())
}

/** The same partitions, each in its order, cut and interleaved at random. */
export function interleave<T extends Pick<Input, 'topic' | 'partition'>>(
  inputs: readonly T[],
  random: Random,
): T[][] {
  const queues = new Map<string, T[]>()
  for (const input of inputs) {
    const id = `${input.topic}/${input.partition}`
    queues.set(id, [...(queues.get(id) ?? []), input])
  }
  const waiting = [...queues.values()]
  const cuts: T[][] = []
  while (waiting.length > 0) {
    const queue = random.pick(waiting)
    cuts.push(queue.splice(0, 1 + random.below(random.below(5) === 0 ? 200 : 12)))
    if (queue.length === 0) waiting.splice(waiting.indexOf(queue), 1)
  }
  return cuts
}
