/** Rows of the views that the page shows, as the views declare them. */

/** A windowed row; times in epoch ms, `windowEnd` exclusive. */
export interface Windowed {
  readonly windowStart: number
  readonly windowEnd: number
  /** False while the window may still change. */
  readonly final: boolean
}

export interface VolumeRow extends Windowed {
  readonly region: string
  readonly currency: string
  readonly orders: number
  readonly items: number
  readonly grossMinor: number
}

export interface RevenueRow extends Windowed {
  readonly region: string
  readonly currency: string
  readonly paidOrders: number
  readonly revenueMinor: number
}

export interface OutcomeRow extends Windowed {
  readonly method: string
  readonly authorized: number
  readonly declined: number
  readonly refunded: number
  readonly authorizationRate: number
}

export interface ProductRow extends Windowed {
  readonly currency: string
  readonly rank: number
  readonly sku: string
  readonly quantity: number
  readonly grossMinor: number
}

export interface CustomersRow extends Windowed {
  readonly customers: number
}

export interface FunnelRow extends Windowed {
  readonly created: number
  readonly paid: number
  readonly reserved: number
  readonly fulfilled: number
  readonly cancelled: number
}

/** Quantiles in ms. */
export interface LatencyRow extends Windowed {
  readonly stage: string
  readonly count: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

export interface UnpaidRow {
  readonly orderId: string
  readonly customerId: string
  readonly totalMinor: number
  readonly currency: string
  readonly createdAt: number
}

export interface AlertRow extends Windowed {
  readonly rule: string
  readonly key: string
  readonly severity: string
  readonly observed: number
  readonly expected: number
  readonly message: string
}
