/** SIGTERM and SIGINT as a promise. */

/** npm passes on a signal that the process group got already: both are one request. */
const SAME_REQUEST_MS = 2000
/** A drain that takes longer will not end by itself. */
const DRAIN_MS_MAX = 30_000

/**
 * Resolves with the first SIGTERM or SIGINT. A second one within 2 s is the same request; later
 * it, or the end of the patience, ends the process at once. What was acknowledged is durable.
 */
export function watchSignals(onSignal: (signal: NodeJS.Signals) => void): Promise<void> {
  return new Promise(resolve => {
    let firstMs: number | undefined
    const handle = (signal: NodeJS.Signals) => {
      if (firstMs === undefined) {
        firstMs = Date.now()
        onSignal(signal)
        setTimeout(() => process.exit(1), DRAIN_MS_MAX).unref()
        resolve()
      } else if (Date.now() - firstMs > SAME_REQUEST_MS) {
        process.exit(1)
      }
    }
    process.on('SIGTERM', handle)
    process.on('SIGINT', handle)
  })
}
