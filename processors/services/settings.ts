/** What the order services are set up with. */

export interface ServiceSettings {
  /** Decides what happens to orders: declines, stock found damaged, carriers that fail. */
  readonly seed: number
  /**
   * How much later than it happened an event may come and still count, ms of event time: a
   * decision about a moment is taken when the events of its order are read so far beyond it.
   */
  readonly settleMs: number
  /**
   * How long a decision whose moment has come by the wall clock waits for what is on its way,
   * ms, when there is nothing more to read by which event time would move.
   */
  readonly patienceMs: number
  /** Pieces of a product that are there when it is first asked for. */
  readonly openingStock: number
  /** Whether the services act on each other's events, or on an orchestrator's commands. */
  readonly saga: 'choreographed' | 'orchestrated'
  /** How long a command waits for its answer before it is told again, ms of wall time. */
  readonly commandTimeoutMs: number
  /** How often a charge or a reservation is told before it is given up. */
  readonly commandAttemptsMax: number
  /** How long after its first event an order is remembered, and after it was read, ms. */
  readonly keepMs: number
}

export const defaultServiceSettings: ServiceSettings = {
  seed: 1,
  settleMs: 5 * 60_000,
  patienceMs: 2000,
  openingStock: 1_000_000,
  saga: 'choreographed',
  commandTimeoutMs: 10 * 60_000,
  commandAttemptsMax: 5,
  keepMs: 30 * 24 * 60 * 60_000,
}
