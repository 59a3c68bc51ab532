/** Sequences in the DSL: what `Stream.matchSequence` adds to a topology. */
import { streamsError } from './errors.ts'
import {
  type MatchSequenceSpec,
  matchSequence,
  matchSequenceStores,
  type SequenceMatch,
} from './operators/match-sequence.ts'
import type { KeySerde, ValueSerde } from './serde.ts'
import { Stream, type StreamOptions } from './stream.ts'

export interface SequenceOptions<K, V, S extends string> {
  /** Names the step, its stores (`name-waiting`, `name-begun`), changelogs and metrics. */
  readonly name: string
  /** 1 to 30 steps in the order of event time; a predicate judges a record by itself. */
  readonly steps: readonly {
    readonly name: S
    readonly where: (value: V, key: K) => boolean
  }[]
  /** Last and first record of a match are at most this far apart, ms of event time. */
  readonly withinMs: number
  /** How far a record may be behind its stream time, ms; a match comes so much later. */
  readonly graceMs: number
  /**
   * `relaxed` (default): records of the key that do not match the next step are passed over.
   * `strict`: they end the matches begun.
   */
  readonly contiguity?: 'relaxed' | 'strict'
  /** How records are written; taken from the stream where they are as they were read. */
  readonly written?: StreamOptions<K, V>
}

const STEPS_MAX = 30

export function matchSequenceOf<K, V, S extends string>(
  stream: Stream<K, V>,
  options: SequenceOptions<K, V, S>,
): Stream<K, SequenceMatch<V, S>> {
  const { name, steps, withinMs, graceMs, contiguity = 'relaxed' } = options
  const invalid = (reason: string): never => {
    throw streamsError('TOPOLOGY_INVALID', { reason: `${name}: ${reason}` })
  }
  if (stream.rekeyed) {
    invalid(
      'the stream was re-keyed, so its records are not where their keys belong: repartition it',
    )
  }
  const written =
    options.written ?? stream.options ?? invalid('say with `written` how records are written')
  const names = steps.map(step => step.name)
  if (names.length === 0 || names.length > STEPS_MAX) invalid(`has 1 to ${STEPS_MAX} steps`)
  if (new Set(names).size < names.length) invalid('two steps have one name')
  for (const [field, ms] of Object.entries({ withinMs, graceMs })) {
    if (!(Number.isSafeInteger(ms) && ms >= 0)) {
      invalid(`${field} must be a whole number of ms, got ${ms}`)
    }
  }
  const spec: MatchSequenceSpec = {
    name,
    key: written.key as KeySerde<unknown>,
    value: written.value as ValueSerde<unknown>,
    steps: steps as MatchSequenceSpec['steps'],
    withinMs,
    graceMs,
    contiguity,
  }
  const node = stream.topology.add({
    kind: 'operator',
    name,
    type: 'match-sequence',
    parents: [stream.edge],
    create: context => matchSequence(spec, context),
    stores: matchSequenceStores(spec),
    identity: `${spec.key.name} ${names.join(' ')} within ${withinMs} ${contiguity}`,
    emission: 'final',
    timeDependent: true,
  })
  return new Stream(stream.topology, { node, output: 'main' })
}
