/**
 * The error catalogue. One row a code: message, what the runtime does next, HTTP status.
 * `docs/ERRORS.md` lists the same rows; a test compares the two in both directions. Codes are
 * never reused.
 */

/** What the runtime does after the error. */
export type Recovery = 'retry' | 'dead-letter' | 'restore' | 'rejoin' | 'stop' | 'reject'

export interface ErrorRow {
  readonly message: string
  readonly recovery: Recovery
  readonly status: number
}

const row = (message: string, recovery: Recovery, status: number): ErrorRow => ({
  message,
  recovery,
  status,
})

/** `{name}` in a message is replaced by that detail. */
export const catalogue = {
  TOPOLOGY_INVALID: row('The topology is invalid: {reason}.', 'stop', 500),
  TOPOLOGY_CHANGED: row(
    'The state in this database was written by another topology ({stored}, now {current}): {reason}. Reset it with `millrace reset`, or start the topology that wrote it.',
    'stop',
    500,
  ),
  TOPIC_MISSING: row('Topic {topic} does not exist.', 'stop', 404),
  TOPIC_PARTITIONS: row('Topic {topic} has {actual} partitions, expected {expected}.', 'stop', 409),
  VIEW_UNKNOWN: row('There is no view named {view}.', 'reject', 404),
  VIEW_NOT_READY: row('The view {view} is not ready: {reason}.', 'reject', 503),
  CURSOR_INVALID: row(
    'The cursor is not one this view gave out for the same filters.',
    'reject',
    400,
  ),
  POSITION_INVALID: row('The position token is not one this service gave out.', 'reject', 400),
  POSITION_LOST: row(
    'The position is beyond the recovered end of the log: fetch the view again.',
    'reject',
    409,
  ),
  QUERY_INVALID: row('Query parameter {parameter}: {reason}.', 'reject', 400),
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof catalogue

export class MillraceError extends Error {
  override readonly name = 'MillraceError'
  readonly code: ErrorCode
  readonly recovery: Recovery
  readonly status: number
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, details: Record<string, unknown> = {}, options?: ErrorOptions) {
    const entry: ErrorRow = catalogue[code]
    super(
      entry.message.replace(/\{(\w+)\}/g, (_, name: string) => String(details[name] ?? '?')),
      options,
    )
    this.code = code
    this.recovery = entry.recovery
    this.status = entry.status
    this.details = details
  }
}

/** Crashes on a bug of ours; errors of the world are `MillraceError`s. */
export function assert(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new Error(`Assertion failed: ${sentence}`)
}
