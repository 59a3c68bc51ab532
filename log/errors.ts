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

/** What went wrong, without where and what to do: for a sentence that says these itself. */
export function reasonOf(error: unknown): string {
  if (error instanceof MillraceError) return String(error.details.reason ?? error.message)
  return error instanceof Error ? error.message : String(error)
}

/** A bug of ours. It is no record's fault, and trying again does not mend it: its task stops. */
export class AssertionFailed extends Error {
  override readonly name = 'AssertionFailed'
}

/** Crashes on a bug of ours; errors of the world are `MillraceError`s. */
export function assert(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new AssertionFailed(`Assertion failed: ${sentence}`)
}

export const logCatalogue = {
  TOPIC_MISSING: { message: 'Topic {topic} does not exist.', recovery: 'stop', status: 404 },
  TOPIC_PARTITIONS: {
    message: 'Topic {topic} has {actual} partitions, expected {expected}.',
    recovery: 'stop',
    status: 409,
  },
  PARTITION_MISSING: {
    message: 'Topic {topic} has no partition {partition}.',
    recovery: 'stop',
    status: 404,
  },
  TOPIC_EXISTS: { message: 'Topic {topic} exists already.', recovery: 'reject', status: 409 },
  TOPIC_INVALID: {
    message: 'Topic {topic} cannot be created: {reason}.',
    recovery: 'reject',
    status: 400,
  },
  GROUP_INVALID: {
    message: 'The group name {group} is not usable: {reason}.',
    recovery: 'reject',
    status: 400,
  },
  OFFSET_OUT_OF_RANGE: {
    message:
      'Offset {offset} of {topic}-{partition} is outside the log, which holds {startOffset} to {endOffset}.',
    recovery: 'reject',
    status: 416,
  },
  BATCH_CORRUPT: {
    message: 'The record batch at byte {position} (base offset {baseOffset}) is corrupt: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  BATCH_MAGIC: {
    message:
      'The record batch at byte {position} has format version {magic}; only version 2 is read. Convert it with a broker of Kafka 3.x.',
    recovery: 'stop',
    status: 500,
  },
  BATCH_TOO_LARGE: {
    message:
      'A record batch of {size} bytes for topic {topic} is larger than its limit of {limit} bytes.',
    recovery: 'dead-letter',
    status: 413,
  },
  COMPRESSION_MISSING: {
    message: 'Compression {codec} needs the package {package}, which is not installed here.',
    recovery: 'stop',
    status: 500,
  },
  LOG_CORRUPT: {
    message:
      'The log is damaged at {where}: {reason}. `millrace doctor` says what is damaged, `millrace doctor --salvage` keeps what is readable; or restore the data directory from a copy.',
    recovery: 'stop',
    status: 500,
  },
  LOG_FORMAT: {
    message:
      'The log was written in format {found}; this version reads format {expected}. Start the version that wrote it.',
    recovery: 'stop',
    status: 500,
  },
  LOG_BUSY: {
    message: 'The log has {waitingBytes} bytes waiting to be written; try again later.',
    recovery: 'retry',
    status: 503,
  },
  LOG_CLOSED: { message: 'The log is closed.', recovery: 'stop', status: 503 },
  WRITER_REPLACED: {
    message:
      'Another process, or another call, now writes under the name {name}; nothing of this transaction is visible.',
    recovery: 'retry',
    status: 503,
  },
  LOG_WRITE_FAILED: {
    message: 'The log could not write; nothing of the transaction is visible: {reason}.',
    recovery: 'retry',
    status: 503,
  },
  LOG_STOPPED: {
    message:
      'The log stopped writing: after a failed write its end could not be read back either ({reason}). Mend the disk and start again; nothing acknowledged is lost.',
    recovery: 'stop',
    status: 503,
  },
} as const satisfies Record<string, ErrorRow>

export const logError = errorsOf(logCatalogue)
