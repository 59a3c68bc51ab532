/** What tracing promises, broken one at a time. */
import type { PlantedBug } from './plant.ts'

const spans = 'test/streams/spans.test.ts'
const context = 'test/streams/trace-context.test.ts'
const cluster = 'test/cluster/tracing.test.ts'
const services = 'test/processors/services/tracing.test.ts'
const first = 'test/cli/first-spans.test.ts'
const requests = 'test/api/tracing.test.ts'

export const plantedTracingBugs: readonly PlantedBug[] = [
  {
    rule: 'spans end when their epoch is committed, not before',
    file: 'streams/epoch-runner.ts',
    find: '    const onTraced = assembly.spans?.seal()\n',
    replace: '    const onTraced = assembly.spans?.seal()\n    onTraced?.()\n',
    tests: [spans, cluster],
  },
  {
    rule: 'the spans of a step are of that step alone',
    file: 'streams/task.ts',
    find: '          batch.traces = traces\n',
    replace: '',
    tests: [spans],
  },
  {
    rule: 'what is derived from a record is in its trace',
    file: 'streams/batch.ts',
    find: '    if (input.traces !== undefined) this.trace(input.traces.get(i))\n',
    replace: '',
    tests: [spans],
  },
  {
    rule: 'a result is in the trace of its record, not of the one beside it',
    file: 'streams/batch.ts',
    find: 'this.traces.set(this.keys.length - 1, span)',
    replace: 'this.traces.set(this.keys.length, span)',
    tests: [spans],
  },
  {
    rule: 'an unsampled traceparent makes no span',
    file: 'streams/trace-context.ts',
    find: '  return ((digit >= 0x61 ? digit + 1 : digit) & TraceFlags.SAMPLED) !== 0\n',
    replace: '  return digit !== 0\n',
    and: {
      find: '  if ((Number.parseInt(flags!, 16) & TraceFlags.SAMPLED) === 0) return undefined\n',
      replace: '',
    },
    tests: [context, spans],
  },
  {
    rule: 'of several headers of the name the last counts',
    file: 'streams/trace-context.ts',
    find: '    if (name === NAME_LENGTH && isName(',
    replace: '    if (found < 0 && name === NAME_LENGTH && isName(',
    tests: [context],
  },
  {
    rule: 'an exchange carries the place of its record, and not where it came from',
    file: 'streams/sinks.ts',
    find: '  if (span === undefined) return headersOf(batch, i)\n',
    replace: '  return headersOf(batch, i)\n',
    tests: [cluster],
  },
  {
    rule: 'a joined pair is linked to the record that waited',
    file: 'streams/operators/stream-join.ts',
    find: '    appended.trace = span && encodeContext(span.spanContext())\n',
    replace: '',
    tests: [spans],
  },
  {
    rule: 'what is left out by the limit is passed on as it came',
    file: 'streams/spans.ts',
    find: '    if (!this.#options.limit.admits(parent.traceId)) return traceparentOf(parent)\n',
    replace: '    if (!this.#options.limit.admits(parent.traceId)) return undefined\n',
    tests: [spans],
  },
  {
    rule: 'services remember the trace of what they act on',
    file: 'processors/services/messages.ts',
    find: '  return { id, correlationId, ...(traceparent && { traceparent }) }\n',
    replace: '  return { id, correlationId }\n',
    tests: [services],
  },
  {
    rule: 'the traces that are sampled are those of the largest ids',
    file: 'cli/first-spans.ts',
    find: 'this.#threshold = (1 - share) * WORD_VALUES',
    replace: 'this.#threshold = share * WORD_VALUES',
    tests: [first],
  },
  {
    rule: 'records of a request that is not sampled begin no trace',
    file: 'cli/first-spans.ts',
    find: 'cause !== undefined && sampledContext(cause) === undefined',
    replace: 'cause === traceparentHeader',
    tests: [first],
  },
  {
    rule: 'many events of one request are for themselves unless its client asked',
    file: 'api/tracing.ts',
    find: 'span.isAsked ? span.traceparent : undefined',
    replace: 'span.traceparent',
    tests: [requests],
  },
]
