/** Tracing of the process, where a receiver of spans is named. */
import type { Logger } from 'pino'
import type { Tracing } from '../streams/spans.ts'
import type { FirstSpans } from './first-spans.ts'
import type { Environment } from './settings.ts'

/** Each costs some 50 µs of a busy thread, which does other things before and after. */
export const SPANS_PER_SECOND_MAX = 100

export interface TracingOptions {
  /** Base address of an OTLP receiver over HTTP. */
  readonly endpoint: string | undefined
  /** Of the requests and events that come without a trace, those that begin one. */
  readonly share: number
  readonly spansPerSecondMax: number
  readonly environment: Environment
  readonly logger: Logger
}

export interface ProcessTracing {
  /** Of an engine; shown as a service of its own. */
  application(name: string): Tracing
  /** Of requests, and of the records that come in. */
  readonly first: FirstSpans
  /** Sends what is left. */
  close(): Promise<void>
}

/** Undefined where nobody is to get spans. Throws SETTINGS_INVALID. */
export async function openTracing(options: TracingOptions): Promise<ProcessTracing | undefined> {
  const { endpoint, environment } = options
  const isNamed = Boolean(endpoint || environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
  const isOff =
    environment.OTEL_SDK_DISABLED?.toLowerCase() === 'true' ||
    environment.OTEL_TRACES_EXPORTER === 'none'
  if (!isNamed || isOff) return undefined
  // The SDK is loaded where it is used.
  const { openOtlp } = await import('./otlp.ts')
  return openOtlp(options)
}
