/**
 * The error catalogue's mechanism, and the log's rows of it. Each folder that raises errors
 * has an `errors.ts` with rows of its own; `docs/ERRORS.md` lists them all and a test compares
 * the two in both directions. Codes are never reused.
 */

/** What the runtime does after the error. */
export type Recovery = 'retry' | 'dead-letter' | 'restore' | 'rejoin' | 'stop' | 'reject'

export interface ErrorRow {
  /** A sentence: what, where, what to do. `{name}` is replaced by that detail. */
  readonly message: string
  readonly recovery: Recovery
  /** HTTP status where the error reaches a client. */
  readonly status: number
}

export type ErrorDetails = Readonly<Record<string, unknown>>

/** An error of the world, in the catalogue. Errors of ours are assertions. */
export class MillraceError extends Error {
  override readonly name = 'MillraceError'
  readonly code: string
  readonly recovery: Recovery
  readonly status: number
  readonly details: ErrorDetails

  constructor(code: string, row: ErrorRow, details: ErrorDetails, options?: ErrorOptions) {
    super(
      row.message.replace(/\{(\w+)\}/g, (_, name: string) => String(details[name] ?? '?')),
      options,
    )
    this.code = code
    this.recovery = row.recovery
    this.status = row.status
    this.details = details
  }
}

/** Binds a folder's rows to a function that makes its errors. */
export function errorsOf<Rows extends Record<string, ErrorRow>>(rows: Rows) {
  return (code: keyof Rows & string, details: ErrorDetails = {}, options?: ErrorOptions) =>
    new MillraceError(code, rows[code]!, details, options)
}

/** Crashes on a bug of ours; errors of the world are `MillraceError`s. */
export function assert(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new Error(`Assertion failed: ${sentence}`)
}

export const logCatalogue = {
  TOPIC_MISSING: { message: 'Topic {topic} does not exist.', recovery: 'stop', status: 404 },
  TOPIC_PARTITIONS: {
    message: 'Topic {topic} has {actual} partitions, expected {expected}.',
    recovery: 'stop',
    status: 409,
  },
} as const satisfies Record<string, ErrorRow>

export const logError = errorsOf(logCatalogue)
