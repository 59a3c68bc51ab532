/** OpenTelemetry's SDK: spans to an OTLP receiver, as the `OTEL_*` variables say. */
import { randomBytes } from 'node:crypto'
import { DiagLogLevel, diag } from '@opentelemetry/api'
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources'
import { AlwaysOnSampler, BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import type { Logger } from 'pino'
import type { Tracing } from '../streams/spans.ts'
import { TraceLimit } from '../streams/trace-limit.ts'
import { effects, steadyClock } from './effects.ts'
import { cliError } from './errors.ts'
import { FirstSpans, TraceIds } from './first-spans.ts'
import type { Environment } from './settings.ts'
import type { ProcessTracing, TracingOptions } from './tracing.ts'
import { packageVersion } from './version.ts'

/** More than come in a few seconds. */
const QUEUE_MAX = 8192
/** A receiver that does not answer holds up no stop for longer. */
const CLOSE_MS_MAX = 3000

export async function openOtlp(options: TracingOptions): Promise<ProcessTracing> {
  const { environment, share, logger, spansPerSecondMax } = options
  tellProblems(logger)
  const processor = new BatchSpanProcessor({
    exporter: exporterOf(options),
    ...batchSettings(environment),
  })
  const limit = new TraceLimit({ spansPerSecondMax, clock: steadyClock })
  const ids = new TraceIds(share, randomBytes)
  const service = environment.OTEL_SERVICE_NAME || 'millrace'
  const tracingOf = (name: string): Tracing => {
    const provider = new TracerProvider({
      resource: resourceOf(name),
      // Who is traced has been decided where its trace began.
      sampler: new AlwaysOnSampler(),
      idGenerator: ids,
      spanProcessors: [processor],
    })
    return { tracer: provider.getTracer('millrace', packageVersion()), clock: steadyClock, limit }
  }
  logger.info({ service, share }, 'tracing')
  return {
    application: name => tracingOf(`${service}-${name}`),
    first: new FirstSpans({ ...tracingOf(service), ids }),
    close: () => withinMs(CLOSE_MS_MAX, processor.shutdown(), logger),
  }
}

function exporterOf({ endpoint, environment }: TracingOptions) {
  const protocol =
    environment.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL ||
    environment.OTEL_EXPORTER_OTLP_PROTOCOL ||
    'http/protobuf'
  // The variable of traces alone names the whole address, and the exporter reads it.
  const base = endpoint?.replace(/\/+$/, '')
  const own = environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  const config = base === undefined || own ? {} : { url: `${base}/v1/traces` }
  if (protocol === 'http/protobuf') return new ProtobufExporter(config)
  if (protocol === 'http/json') return new JsonExporter(config)
  const problems = `  OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf or http/json, got ${JSON.stringify(protocol)}`
  throw cliError('SETTINGS_INVALID', { problems })
}

function batchSettings(environment: Environment) {
  const number = (name: string) => {
    const value = Number(environment[name] || Number.NaN)
    return Number.isInteger(value) && value > 0 ? value : undefined
  }
  const settings = {
    maxQueueSize: number('OTEL_BSP_MAX_QUEUE_SIZE') ?? QUEUE_MAX,
    maxExportBatchSize: number('OTEL_BSP_MAX_EXPORT_BATCH_SIZE'),
    scheduledDelayMillis: number('OTEL_BSP_SCHEDULE_DELAY'),
    exportTimeoutMillis: number('OTEL_BSP_EXPORT_TIMEOUT'),
  }
  const given = Object.entries(settings).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given) as { [N in keyof typeof settings]?: number }
}

function resourceOf(service: string) {
  return defaultResource()
    .merge(detectResources({ detectors: [envDetector] }))
    .merge(
      resourceFromAttributes({
        'service.name': service,
        'service.namespace': 'millrace',
        'service.version': packageVersion(),
      }),
    )
}

/** What the SDK complains of: a receiver that cannot be reached, spans that had to be dropped. */
function tellProblems(logger: Logger): void {
  const tell = (message: string, ...details: unknown[]) =>
    logger.warn({ details: details.map(String) }, `tracing: ${message}`)
  const quiet = () => {}
  const diagnostics = { error: tell, warn: tell, info: quiet, debug: quiet, verbose: quiet }
  diag.setLogger(diagnostics, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
}

/** Waits for it, but not for ever; what goes wrong is told. */
async function withinMs(ms: number, work: Promise<void>, logger: Logger): Promise<void> {
  let cancel = () => {}
  const late = new Promise<void>(resolve => {
    cancel = effects.schedule(resolve, ms)
  })
  const done = work.catch(error => logger.warn({ err: error }, 'tracing: not all spans were sent'))
  await Promise.race([done, late])
  cancel()
}
