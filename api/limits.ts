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
  readonly socketsMax: number
  readonly subscriptionsMax: number
  readonly messageBytesMax: number
  readonly messagesPerSecondMax: number
  /** Unsent bytes of a client above which its rows are conflated. */
  readonly conflateBytes: number
  /** Unsent and conflated bytes at which a slow client is closed. */
  readonly clientBytesMax: number
  /** How long a slow client may make no progress. */
  readonly clientStallMs: number
  readonly initTimeoutMs: number
  readonly heartbeatMs: number
  /** Commits within this time reach subscribers as one delta. */
  readonly publishIntervalMs: number
  /** How often a view without changes tells its position. */
  readonly idlePositionMs: number
  /** Row changes kept a view, for clients that come back. */
  readonly resumeChangesMax: number
  readonly closeGraceMs: number
  readonly requestsPerMinuteMax: number
}

export const defaultLimits: Limits = {
  requestBytesMax: 64 * 1024 * 1024,
  appendRecordsMax: 1000,
  appendBytesMax: 1024 * 1024,
  rejectedListMax: 1000,
  atomicRequestsMax: 2,
  socketsMax: 4096,
  subscriptionsMax: 64,
  messageBytesMax: 64 * 1024,
  messagesPerSecondMax: 200,
  conflateBytes: 64 * 1024,
  clientBytesMax: 4 * 1024 * 1024,
  clientStallMs: 30_000,
  initTimeoutMs: 5_000,
  heartbeatMs: 15_000,
  publishIntervalMs: 25,
  idlePositionMs: 1_000,
  resumeChangesMax: 20_000,
  closeGraceMs: 1_000,
  requestsPerMinuteMax: 1_200,
}

/** Runs a callback once after a delay in ms; the result cancels it. */
export type Schedule = (run: () => void, delayMs: number) => () => void
