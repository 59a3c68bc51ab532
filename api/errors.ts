/** The server's rows of the error catalogue; `log/errors.ts` explains the mechanism. */
import { type ErrorRow, errorsOf } from '../streams/errors.ts'

export const apiCatalogue = {
  ROUTE_UNKNOWN: { message: 'Nothing is served at {path}.', recovery: 'reject', status: 404 },
  METHOD_REFUSED: {
    message: 'The method {method} is not served here; allowed: {allow}.',
    recovery: 'reject',
    status: 405,
  },
  REQUEST_MALFORMED: {
    message: 'The request is malformed: {reason}.',
    recovery: 'reject',
    status: 400,
  },
  HEADERS_TOO_LARGE: {
    message: 'The request line and headers are larger than the server reads.',
    recovery: 'reject',
    status: 431,
  },
  REQUEST_TIMEOUT: {
    message: 'The request did not arrive in time.',
    recovery: 'reject',
    status: 408,
  },
  REQUEST_ABORTED: {
    message: 'The client left before the answer was ready.',
    recovery: 'reject',
    status: 400,
  },
  MEDIA_TYPE_REFUSED: {
    message: 'The body must be {expected}.',
    recovery: 'reject',
    status: 415,
  },
  BODY_TOO_LARGE: {
    message: 'The body is larger than {bytesMax} bytes; send it in several requests.',
    recovery: 'reject',
    status: 413,
  },
  ROW_MISSING: {
    message: 'The view {view} has no row with this key.',
    recovery: 'reject',
    status: 404,
  },
  VIEW_NOT_TABLE: {
    message: 'The view {view} is windowed; only rows of table views have a path of their own.',
    recovery: 'reject',
    status: 400,
  },
  EVENTS_REJECTED: { message: 'No line was appended: {reason}.', recovery: 'reject', status: 400 },
  EVENTS_CUT_OFF: {
    message: 'The log refused a batch after {accepted} lines were appended.',
    recovery: 'retry',
    status: 503,
  },
  COMMAND_INVALID: {
    message: 'The command is not valid, and nothing was appended: {reason}.',
    recovery: 'reject',
    status: 400,
  },
  COMMAND_UNDECIDED: {
    message:
      'The command {command} was appended, and nothing came of it; the dead letters of `ordering` tell why.',
    recovery: 'retry',
    status: 503,
  },
  COMMANDS_NOT_SERVED: {
    message:
      'Orders take no commands here: the application `ordering` does not run. Start with SERVICES=on, or name it in SERVICES.',
    recovery: 'retry',
    status: 503,
  },
  IDEMPOTENCY_KEY_REUSED: {
    message: 'The Idempotency-Key was used here for another command; use a new one.',
    recovery: 'reject',
    status: 422,
  },
  ORDER_UNKNOWN: { message: 'There is no order {order}.', recovery: 'reject', status: 404 },
  ORDER_EXISTS: { message: 'There is an order {order} already.', recovery: 'reject', status: 409 },
  ORDER_CHANGED: {
    message:
      'The order {order} has version {version}, which is not that of If-Match. Read it again.',
    recovery: 'reject',
    status: 412,
  },
  ORDER_CLOSED: {
    message: 'The order {order} is {status}: it does not take this any more.',
    recovery: 'reject',
    status: 409,
  },
  ORDER_FULL: {
    message: 'The order {order} has as many events or items as an order can have.',
    recovery: 'reject',
    status: 409,
  },
  ORDER_TOO_LARGE: {
    message: 'The total of the order {order} would be above 2^53 - 1.',
    recovery: 'reject',
    status: 422,
  },
  UNAUTHENTICATED: {
    message: 'A valid API key or token is needed: send it as `Authorization: Bearer`.',
    recovery: 'reject',
    status: 401,
  },
  TOKEN_INVALID: {
    message: 'The bearer token is not valid: {reason}.',
    recovery: 'reject',
    status: 401,
  },
  TOKEN_EXPIRED: {
    message: 'The bearer token has expired; get a new one.',
    recovery: 'reject',
    status: 401,
  },
  KEYS_UNAVAILABLE: {
    message: 'The keys that bearer tokens are checked with cannot be had just now.',
    recovery: 'retry',
    status: 503,
  },
  FORBIDDEN: { message: 'This needs the role {role}.', recovery: 'reject', status: 403 },
  ORIGIN_REFUSED: {
    message: 'Pages of this origin may not connect; add it to ALLOWED_ORIGINS.',
    recovery: 'reject',
    status: 403,
  },
  HOST_REFUSED: {
    message: 'Without credentials only loopback host names are served.',
    recovery: 'reject',
    status: 403,
  },
  RATE_LIMITED: {
    message: 'Too many requests; try again in {seconds} s.',
    recovery: 'retry',
    status: 429,
  },
  OVERLOADED: { message: 'Too many {what} at once.', recovery: 'retry', status: 503 },
  NOT_READY: { message: 'The instance is not ready: {reason}.', recovery: 'retry', status: 503 },
  SHUTTING_DOWN: { message: 'The instance is shutting down.', recovery: 'retry', status: 503 },
  INTERNAL: {
    message: 'An internal error; the log has it under this instance id.',
    recovery: 'retry',
    status: 500,
  },
  MESSAGE_INVALID: {
    message: 'The message is not one of the protocol: {reason}.',
    recovery: 'reject',
    status: 400,
  },
  FEEDS_EXCEEDED: {
    message: 'One user holds at most {max} live sockets and event streams.',
    recovery: 'reject',
    status: 429,
  },
  SUBSCRIPTIONS_EXCEEDED: {
    message: 'A connection holds at most {max} subscriptions.',
    recovery: 'reject',
    status: 429,
  },
  BIND_REFUSED: {
    message:
      'Refusing to listen on {host} without credentials. Set API_KEYS (name:role:secret) or JWKS_URL, or bind 127.0.0.1.',
    recovery: 'stop',
    status: 500,
  },
  API_KEYS_INVALID: {
    message: 'API_KEYS is not a list of name:role:secret: {reason}.',
    recovery: 'stop',
    status: 500,
  },
} as const satisfies Record<string, ErrorRow>

export const apiError = errorsOf(apiCatalogue)
