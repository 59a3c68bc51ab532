/** `millrace`: the DSL and the engine. */

export { checkApplications } from './applications.ts'
export type { AsOfOptions } from './as-of.ts'
export { composeViews } from './composed-views.ts'
export type { RecordContext } from './current-record.ts'
export { Engine, type EngineOptions } from './engine.ts'
export type { CrashPoint, EngineEnvironment, EngineSettings } from './environment.ts'
export { MillraceError } from './errors.ts'
export type { ForeignKeyOptions } from './foreign-key.ts'
export { type GlobalOptions, GlobalTable } from './global-table.ts'
export {
  type AggregateOptions,
  GroupedStream,
  type TableAggregateOptions,
  type TableAggregation,
  type TableReduction,
} from './grouped-stream.ts'
export type { SequenceMatch } from './operators/match-sequence.ts'
export type { TopEntry } from './operators/top-k.ts'
export { encodePosition, type Position } from './position.ts'
export type { DeduplicateOptions, ProcessOptions } from './processing.ts'
export type {
  KeyedRows,
  Processor,
  ProcessorContext,
  ProcessorRecord,
  ProcessorStore,
  ProcessorStores,
  Timer,
  Want,
} from './processor.ts'
export type { Ranked } from './ranked-key.ts'
export type { Peer, RemoteViews } from './remote-views.ts'
export { RetriableError, type RetryPolicy } from './retries.ts'
export type { SequenceOptions } from './sequence.ts'
export { fieldsKey, json, type KeySerde, plain, text, textKey, type ValueSerde } from './serde.ts'
export { ddSketchCodec, hyperLogLogCodec } from './sketches/codecs.ts'
export { DDSketch } from './sketches/ddsketch.ts'
export { HyperLogLog } from './sketches/hyperloglog.ts'
export type { Tracing } from './spans.ts'
export { type Grouping, Stream, type StreamOptions } from './stream.ts'
export { Table, type ViewOptions } from './table.ts'
export { Topology } from './topology.ts'
export { TraceLimit } from './trace-limit.ts'
export type { VersionedOptions } from './versioned.ts'
export { viewService } from './view-service.ts'
export type * from './views.ts'
export type { WindowRowsOptions } from './window-rows.ts'
export {
  type Aggregation,
  type Reduction,
  type SessionAggregation,
  SessionStream,
  type SlidingAggregation,
  SlidingStream,
  type TopAggregation,
  WindowedStream,
} from './windowed-stream.ts'
export {
  hopping,
  type SessionWindows,
  type SlidingWindows,
  sessions,
  sliding,
  type TimeWindows,
  tumbling,
  type Windowed,
} from './windows.ts'
