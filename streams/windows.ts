/**
 * Window definitions. Windows are `[start, end)` in event time and aligned to the epoch;
 * sessions alone have an inclusive end, the time of their last event. Times and sizes are ms.
 *
 * tumbling of 5 s: [0;5000), [5000;10000), … and not [1000;6000).
 * hopping of 5 s by 3 s: [0;5000), [3000;8000), …
 */
import { streamsError } from './errors.ts'

export interface TimeWindows {
  readonly kind: 'time'
  readonly sizeMs: number
  readonly advanceMs: number
  readonly graceMs: number
}

export interface SessionWindows {
  readonly kind: 'session'
  /** Events exactly this far apart still belong to one session. */
  readonly gapMs: number
  readonly graceMs: number
}

/**
 * Windows that the records define: the one that ends with a record, and the one that begins
 * right after it, if it holds any. Written `[start, end)`: `end = start + differenceMs + 1`.
 */
export interface SlidingWindows {
  readonly kind: 'sliding'
  /** Records exactly this far apart are still together in a window. */
  readonly differenceMs: number
  readonly graceMs: number
}

export interface Windowed<K> {
  readonly key: K
  readonly windowStart: number
  readonly windowEnd: number
}

export function windowed<K>(key: K, windowStart: number, sizeMs: number): Windowed<K> {
  return { key, windowStart, windowEnd: windowStart + sizeMs }
}

function duration(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw streamsError('TOPOLOGY_INVALID', {
      reason: `${name} must be a whole number of ms of at least ${least}, got ${value}`,
    })
  }
  return value
}

/** Windows of `sizeMs` side by side; a record is late when end + grace ≤ its stream time. */
export function tumbling(sizeMs: number, options: { graceMs: number }): TimeWindows {
  return hopping(sizeMs, { advanceMs: sizeMs, graceMs: options.graceMs })
}

/** Windows of `sizeMs`, one beginning every `advanceMs`; a record falls into several. */
export function hopping(
  sizeMs: number,
  options: { advanceMs: number; graceMs: number },
): TimeWindows {
  duration('window size', sizeMs, 1)
  duration('window advance', options.advanceMs, 1)
  duration('grace', options.graceMs, 0)
  if (options.advanceMs > sizeMs) {
    throw streamsError('TOPOLOGY_INVALID', {
      reason: `window advance ${options.advanceMs} ms is larger than the size ${sizeMs} ms: records between windows would belong to none`,
    })
  }
  return { kind: 'time', sizeMs, ...options }
}

/** Sessions: a key's events no more than `gapMs` apart. */
export function sessions(gapMs: number, options: { graceMs: number }): SessionWindows {
  return {
    kind: 'session',
    gapMs: duration('session gap', gapMs, 0),
    graceMs: duration('grace', options.graceMs, 0),
  }
}

/**
 * For each record the window of the `differenceMs` before it, and the one after it if any record
 * is there. A window closes when end + grace ≤ watermark.
 */
export function sliding(differenceMs: number, options: { graceMs: number }): SlidingWindows {
  return {
    kind: 'sliding',
    differenceMs: duration('time difference', differenceMs, 0),
    graceMs: duration('grace', options.graceMs, 0),
  }
}

/** Start of the first window that contains `timeMs`; later ones follow every `advanceMs`. */
export function firstWindowStart(windows: TimeWindows, timeMs: number): number {
  const last = timeMs - (timeMs % windows.advanceMs)
  const count = Math.ceil((windows.sizeMs - (timeMs - last)) / windows.advanceMs)
  return Math.max(last - (count - 1) * windows.advanceMs, 0)
}

/** Start of the last window that ended at least `afterMs` before the watermark; −∞ for none. */
export function lastWindowEnded(
  { sizeMs, advanceMs }: Pick<TimeWindows, 'sizeMs' | 'advanceMs'>,
  watermarkMs: number,
  afterMs: number,
): number {
  const start = watermarkMs - sizeMs - afterMs
  return start < 0 ? Number.NEGATIVE_INFINITY : start - (start % advanceMs)
}
