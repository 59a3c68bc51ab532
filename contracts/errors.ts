/**
 * What can be wrong with bytes or values at the boundary. `contracts` imports nothing, so the
 * rows repeat the shape of the catalogue in `log/errors.ts`; `docs/ERRORS.md` lists them too.
 */

export const contractCatalogue = {
  EVENT_FRAME: {
    message: 'Not an event in Confluent framing: {reason}.',
    recovery: 'dead-letter',
    status: 400,
  },
  EVENT_SCHEMA_UNKNOWN: {
    message: 'The schema of the event is not known: {reason}.',
    recovery: 'dead-letter',
    status: 400,
  },
  SCHEMA_PENDING: {
    message: 'The schema of the event is being looked up: {reason}.',
    recovery: 'retry',
    status: 503,
  },
  EVENT_TRUNCATED: {
    message: 'The event ends too early: {reason}.',
    recovery: 'dead-letter',
    status: 400,
  },
  EVENT_TRAILING: {
    message: 'The event is followed by foreign bytes: {reason}.',
    recovery: 'dead-letter',
    status: 400,
  },
  EVENT_LENGTH: {
    message: 'A length or index in the event is impossible: {reason}.',
    recovery: 'dead-letter',
    status: 400,
  },
  EVENT_TEXT: {
    message: 'A text in the event is not UTF-8: {reason}.',
    recovery: 'dead-letter',
    status: 400,
  },
  EVENT_NUMBER: {
    message: 'A number in the event is out of range: {reason}.',
    recovery: 'dead-letter',
    status: 400,
  },
  EVENT_VALUE: {
    message: 'The event does not fit its schema: {reason}.',
    recovery: 'reject',
    status: 400,
  },
  SCHEMA_UNSUPPORTED: {
    message: 'The Avro schema cannot be used: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  SCHEMA_REFUSED: {
    message:
      'A schema of this version does not fit what the registry has: {reason}. Make the change compatible, or choose another SCHEMA_COMPATIBILITY for the subject.',
    recovery: 'stop',
    status: 409,
  },
  REGISTRY_REFUSED: {
    message:
      'The schema registry refuses the request: {reason}. Check REGISTRY_URL and its rights.',
    recovery: 'stop',
    status: 502,
  },
} as const

const refused = { recovery: 'reject', status: 400 } as const

/** Why a line of event input is refused; the refusal itself says where in the line. */
export const lineCatalogue = {
  LINE_TOO_LONG: { message: 'The line is too long.', ...refused },
  LINE_NOT_UTF8: { message: 'The line is not UTF-8.', ...refused },
  JSON_INVALID: { message: 'The line is not a JSON object.', ...refused },
  ENVELOPE_INVALID: { message: 'A member of the line is missing, unknown or wrong.', ...refused },
  TOPIC_UNKNOWN: { message: 'There is no input topic of that name.', ...refused },
  TYPE_UNKNOWN: { message: 'The topic has no event type of that name.', ...refused },
  FIELD_UNKNOWN: { message: 'The event type has no field of that name.', ...refused },
  FIELD_MISSING: { message: 'A field of the event is missing.', ...refused },
  FIELD_INVALID: { message: 'A field of the event has a wrong type or value.', ...refused },
  NUMBER_TOO_LARGE: { message: 'A number is larger than its field holds.', ...refused },
  KEY_INVALID: { message: 'The key is not the key field of the event.', ...refused },
  TIMESTAMP_INVALID: { message: 'The timestamp is missing, negative or no integer.', ...refused },
  TIMESTAMP_MISMATCH: {
    message: "The timestamp is not the event's own time.",
    ...refused,
  },
  TIMESTAMP_FUTURE: { message: 'The timestamp is more than a day ahead.', ...refused },
  HEADER_INVALID: { message: 'A header is not a text.', ...refused },
  RECORD_TOO_LARGE: { message: 'The record is larger than 1 MiB.', ...refused },
} as const

export type ContractCode = keyof typeof contractCatalogue

/** Bytes or values that break the contract; `code` is a row of the catalogue. */
export class ContractError extends Error {
  override readonly name = 'ContractError'
  readonly code: ContractCode
  /** Where in the event: `items[2].sku`; empty when it concerns the whole. */
  readonly path: string
  readonly problem: string

  constructor(code: ContractCode, problem: string, path = '') {
    super(contractCatalogue[code].message.replace('{reason}', () => reasonOf(problem, path)))
    this.code = code
    this.problem = problem
    this.path = path
  }

  /** Where and what, as a phrase: `items[2].sku: 40 bytes wanted, 3 left`. */
  get reason(): string {
    return reasonOf(this.problem, this.path)
  }
}

/** The schema of the bytes is not known yet: they are to be read again a little later. */
export class SchemaPending extends ContractError {
  readonly retriable = true
  /** However often it takes: see `Retries`. */
  readonly pending = true

  constructor(id: number) {
    super('SCHEMA_PENDING', `id ${id}`)
  }
}

function reasonOf(problem: string, path: string): string {
  return path === '' ? problem : `${path}: ${problem}`
}

/** Puts a field name or `[index]` before the path of a contract error; others pass unchanged. */
export function inField(error: unknown, field: string): unknown {
  if (!(error instanceof ContractError)) return error
  const dot = error.path === '' || error.path.startsWith('[') ? '' : '.'
  return new ContractError(error.code, error.problem, field + dot + error.path)
}
