/** SIGTERM and SIGINT as a promise. */
import { constants } from 'node:os'

/** npm passes on a signal that the process group got already: both are one request. */
const SAME_REQUEST_MS = 2000
/** A drain that takes longer will not end by itself. */
const DRAIN_MS_MAX = 30_000

/** What is known by then can be told: what was due may have to be counted. */
const TELL_MS = 10_000

/**
 * Resolves with the first SIGTERM or SIGINT. A second one within 2 s is the same request; later
 * it, or the end of the patience, ends the process at once. What was acknowledged is durable.
 *
 * With `onImpatience` that is called instead, and the process ends 10 s after it at the latest, or
 * with a third one.
 */
export function watchSignals(
  onSignal: (signal: NodeJS.Signals) => void,
  onImpatience?: () => void,
): Promise<void> {
  return new Promise(resolve => {
    let firstMs: number | undefined
    let isImpatient = false
    const hurry = (signal: NodeJS.Signals) => {
      if (onImpatience === undefined) process.exit(1)
      if (isImpatient) process.exit(exitCodeOf(signal))
      isImpatient = true
      onImpatience()
      setTimeout(() => process.exit(exitCodeOf(signal)), TELL_MS).unref()
    }
    const handle = (signal: NodeJS.Signals) => {
      if (firstMs === undefined) {
        firstMs = Date.now()
        onSignal(signal)
        setTimeout(() => hurry(signal), DRAIN_MS_MAX).unref()
        resolve()
      } else if (Date.now() - firstMs > SAME_REQUEST_MS) {
        hurry(signal)
      }
    }
    process.on('SIGTERM', handle)
    process.on('SIGINT', handle)
  })
}

/** As shells have it: 130 for SIGINT, 143 for SIGTERM. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal]
}
