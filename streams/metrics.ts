/** The engine's figures, read when asked for. Names follow Kafka Streams where it has a twin. */
import type { Engine } from './engine.ts'
import type { MetricSample } from './views.ts'

type Labels = MetricSample['labels']

const counter = (name: string, help: string) => (labels: Labels, value: number) =>
  ({ name, help, kind: 'counter', labels, value }) satisfies MetricSample
const gauge = (name: string, help: string) => (labels: Labels, value: number) =>
  ({ name, help, kind: 'gauge', labels, value }) satisfies MetricSample

const read = counter('records_consumed_total', 'Records read from a source partition')
const lag = gauge('records_lag', 'Records of a source partition not processed yet')
const streamTime = gauge('stream_time_ms', 'Largest event time seen in a source partition')
const idle = gauge('source_idle', '1 while a source partition is left out of the watermark')
const process = counter('process_total', 'Records that reached a step')
const dropped = counter('dropped_records_total', 'Records a step took out of the flow, by reason')
const watermark = gauge('watermark_ms', 'Event time up to which a step is complete')
const epochs = counter('commit_total', 'Epochs committed')
const overlay = gauge('store_overlay_rows', 'Rows of a store not yet applied')
const cached = gauge('store_cached_bytes', 'Heap used by cached rows and blocks of a store')
const restored = counter(
  'restored_bytes_total',
  'Bytes read from the changelog of a store to restore it, here or as a standby',
)
const letters = counter('dead_letters_total', 'Dead letters written, by step and reason')
const retried = counter(
  'retried_records_total',
  'Failed attempts after which a record was tried again',
)
const written = counter('records_produced_total', 'Records written to sinks and dead letters')

/** Samples of all sources, named steps and stores. */
export function engineMetrics(engine: Engine): MetricSample[] {
  const { assembly } = engine
  const { application } = engine.topology
  const samples: MetricSample[] = [
    epochs({}, engine.epochs),
    written({}, assembly.sinks.recordsWritten),
  ]
  for (const source of assembly.sources) {
    const { topic, partition, branch } = source
    const labels = {
      topic,
      partition: String(partition),
      ...(branch > 0 && { branch: String(branch) }),
    }
    samples.push(read(labels, source.recordsRead))
    samples.push(lag(labels, Math.max(source.endOffset - source.position, 0)))
    samples.push(idle(labels, source.idle ? 1 : 0))
    if (source.streamTimeMs > 0) samples.push(streamTime(labels, source.streamTimeMs))
  }
  for (const task of assembly.tasks) {
    for (const runtime of task.runtimes) {
      const labels = { step: runtime.node.name, partition: String(task.partition) }
      for (const [reason, count] of runtime.dropped) {
        samples.push(dropped({ ...labels, reason }, count))
      }
      if (runtime.node.kind !== 'operator' || runtime.node.stores.length === 0) continue
      samples.push(process(labels, runtime.recordsIn))
      if (runtime.closedMs > 0) samples.push(watermark(labels, runtime.closedMs))
    }
  }
  for (const [id, count] of engine.failures.deadLetters.rejected) {
    const [step, reason] = id
    samples.push(dropped({ step, reason }, count))
  }
  for (const [[step, reason], count] of engine.failures.deadLetters.written) {
    samples.push(letters({ step, reason }, count))
  }
  for (const [step, count] of engine.failures.retries.counts) samples.push(retried({ step }, count))
  for (const [store, bytes] of engine.restoredBytes) samples.push(restored({ store }, bytes))
  for (const store of assembly.stores) {
    const labels = {
      store: store.name.slice(application.length + 1),
      partition: String(store.partition),
    }
    samples.push(overlay(labels, store.metrics.overlayRows))
    samples.push(cached(labels, store.metrics.cachedBytes))
  }
  return samples
}
