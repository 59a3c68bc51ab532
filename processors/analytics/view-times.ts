/** Times that the analytics views share, ms. */

export const secondMs = 1000
export const minuteMs = 60 * secondMs
export const hourMs = 60 * minuteMs
export const dayMs = 24 * hourMs

/** How long after the end of a window its records are still taken. */
export const graceMs = 10 * minuteMs

/** Orders of a customer at most this far apart belong to one session. */
export const sessionGapMs = 30 * minuteMs

/** How far apart an order and its payment may be, in either order. */
export const paymentReachMs = dayMs

/** How long after its payment an order may be fulfilled. */
export const fulfilmentReachMs = 7 * dayMs

/** Settings of the views. */
export interface ViewSettings {
  /** How long views keep their windows after their end, ms of event time; Infinity for ever. */
  readonly retentionMs: number
}

/** The least retention: what still takes records is kept. */
export const retentionMsMin = sessionGapMs + graceMs
