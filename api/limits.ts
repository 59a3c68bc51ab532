/** Every bound of the server, named. All have defaults; tests set small ones. */

export interface Limits {
  readonly requestBytesMax: number
  /** Records and bytes appended in one call. */
  readonly appendRecordsMax: number
  readonly appendBytesMax: number
  /** Rejected lines that an answer lists; the rest is counted. */
  readonly rejectedListMax: number
  /** Atomic requests hold their whole body until it is known to be good. */
  readonly atomicRequestsMax: number
  /** Connections of any kind; Node closes what comes beyond. */
  readonly connectionsMax: number
  /** Header fields of a request. */
  readonly headersMax: number
  /** How long the headers and the whole of a request may take to arrive. */
  readonly headersTimeoutMs: number
  readonly requestTimeoutMs: number
  /** How often both are looked at: they end requests so much later at most. */
  readonly timeoutCheckMs: number
  /** Live sockets and event streams together. */
  readonly socketsMax: number
  /** The same of one user, where there are credentials. */
  readonly userFeedsMax: number
  /** Sockets that have not said who they are. */
  readonly socketsUnknownMax: number
  /** How often the credentials of open feeds are looked at. */
  readonly sessionCheckMs: number
  readonly subscriptionsMax: number
  readonly messageBytesMax: number
  /** Frames that one message may come in. */
  readonly messageFragmentsMax: number
  /** Messages, pings and pongs of a connection. */
  readonly messagesPerSecondMax: number
  /** Unsent bytes of a client above which it gets no more until it has read. */
  readonly conflateBytes: number
  /** Bytes of deltas that a client may miss in one such pause before it is closed. */
  readonly clientBytesMax: number
  /** How long a slow client may make no progress. */
  readonly clientStallMs: number
  readonly initTimeoutMs: number
  readonly heartbeatMs: number
  /** Commits within this time reach subscribers as one delta. */
  readonly publishIntervalMs: number
  /** How often a view without changes tells its position. */
  readonly idlePositionMs: number
  /** Changed rows kept a view, for clients that are slow or come back. */
  readonly resumeRowsMax: number
  /** Positions kept a view from which a client can resume. */
  readonly resumePositionsMax: number
  /** Snapshots in a row that a client may need because it was too slow for the one before. */
  readonly refetchesMax: number
  /** How long a socket or stream that is being closed may take to go. */
  readonly closeGraceMs: number
  /** How long requests that have begun may take when the server closes. */
  readonly drainMs: number
  readonly requestsPerMinuteMax: number
  /** Queries of rows at a time, and how long one may look for rows before its page ends. */
  readonly queriesMax: number
  readonly queryMsMax: number
}

export const defaultLimits: Limits = {
  requestBytesMax: 64 * 1024 * 1024,
  appendRecordsMax: 1000,
  appendBytesMax: 1024 * 1024,
  rejectedListMax: 1000,
  atomicRequestsMax: 2,
  connectionsMax: 8192,
  headersMax: 100,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 300_000,
  timeoutCheckMs: 5_000,
  socketsMax: 4096,
  userFeedsMax: 256,
  socketsUnknownMax: 1024,
  sessionCheckMs: 2_000,
  subscriptionsMax: 64,
  messageBytesMax: 64 * 1024,
  messageFragmentsMax: 64,
  messagesPerSecondMax: 200,
  conflateBytes: 64 * 1024,
  clientBytesMax: 4 * 1024 * 1024,
  clientStallMs: 30_000,
  initTimeoutMs: 5_000,
  heartbeatMs: 15_000,
  publishIntervalMs: 25,
  idlePositionMs: 1_000,
  resumeRowsMax: 20_000,
  resumePositionsMax: 4_096,
  refetchesMax: 3,
  closeGraceMs: 1_000,
  drainMs: 10_000,
  requestsPerMinuteMax: 1_200,
  queriesMax: 64,
  queryMsMax: 2_000,
}

/** Runs a callback once after a delay in ms; the result cancels it. */
export type Schedule = (run: () => void, delayMs: number) => () => void
