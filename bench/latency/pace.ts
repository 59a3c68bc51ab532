/**
 * Orders and payments sent as they happen, at a fixed rate: event time is the planned time of
 * sending, reckoned from one anchor, so that a send that comes late counts as late (no coordinated
 * omission). Every payment comes within the join's two minutes.
 */
import { Kafka, logLevel, Partitioners, type Producer } from 'kafkajs'
import { avroSerde, orderSchema, PARTITIONS, paymentSchema } from '../reference-input.ts'

/** Of 100 inputs so many are orders, as in the reference input. */
const ORDER_SHARE = 1_000_000 / 1_949_906
const PAID_SHARE = 0.95
const PAYMENT_DELAY_MS = 10_000
const TICK_MS = 5
const WINDOW_MS = 10_000

export interface Pace {
  readonly bootstrap: string
  readonly prefix: string
  readonly inputsPerSecond: number
  readonly seconds: number
  /** Told of each payment when it is planned: the output key that counts it, and when. */
  readonly onPayment: (output: string, timeMs: number) => void
}

interface Due {
  readonly key: string
  readonly number: number
  readonly region: string
  readonly amountCents: number
  readonly timeMs: number
}

interface Message {
  readonly key: string
  readonly value: Buffer
  readonly partition: number
  readonly timestamp: string
}

/** Resolves with how late the latest send was, ms, and how many records were sent. */
export async function sendPaced(pace: Pace): Promise<{ latestMs: number; sent: number }> {
  const { bootstrap, prefix } = pace
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR })
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  const input = new PacedInput(pace)
  const anchorMs = Date.now() + 100
  const endMs = anchorMs + pace.seconds * 1000
  const sends = new Set<Promise<unknown>>()
  let latestMs = 0
  let sent = 0
  for (let dueMs = anchorMs; dueMs < endMs; dueMs += TICK_MS) {
    const waitMs = dueMs - Date.now()
    if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs))
    const { orders, payments } = input.until(anchorMs, Math.min(Date.now(), endMs))
    sent += orders.length + payments.length
    latestMs = Math.max(latestMs, Date.now() - dueMs)
    const send = sendBoth(producer, prefix, { orders, payments })
    sends.add(send)
    send.finally(() => sends.delete(send))
  }
  await Promise.all(sends)
  await producer.disconnect()
  return { latestMs, sent }
}

function sendBoth(producer: Producer, prefix: string, messages: Record<string, Message[]>) {
  const topicMessages = Object.entries(messages)
    .filter(([, list]) => list.length > 0)
    .map(([topic, list]) => ({ topic: prefix + topic, messages: list }))
  return producer.sendBatch({ topicMessages, acks: -1 })
}

class PacedInput {
  readonly #pace: Pace
  readonly #order = avroSerde(orderSchema, 1, [])
  readonly #payment = avroSerde(paymentSchema, 2, [])
  readonly #due: Due[][] = []
  #orders = 0
  #dueFrom = 0
  #state = 42

  constructor(pace: Pace) {
    this.#pace = pace
  }

  #random(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0
    return this.#state / 4294967296
  }

  /** Everything planned up to a time that was not taken before. */
  until(anchorMs: number, nowMs: number): { orders: Message[]; payments: Message[] } {
    const orders: Message[] = []
    const perMs = (this.#pace.inputsPerSecond * ORDER_SHARE) / 1000
    const planned = Math.floor((nowMs - anchorMs) * perMs)
    while (this.#orders < planned) {
      const number = this.#orders++
      orders.push(this.#orderAt(number, Math.round(anchorMs + number / perMs), anchorMs))
    }
    const payments: Message[] = []
    for (; this.#dueFrom <= nowMs - anchorMs; this.#dueFrom++) {
      for (const due of this.#due[this.#dueFrom] ?? []) payments.push(this.#paid(due))
      delete this.#due[this.#dueFrom]
    }
    return { orders, payments }
  }

  #orderAt(number: number, timeMs: number, anchorMs: number): Message {
    const key = `order-${String(number).padStart(9, '0')}`
    const region = `region-${Math.floor(this.#random() * 50)}`
    const amountCents = 100 + Math.floor(this.#random() * 9900)
    const sku = `sku-${Math.floor(this.#random() * 1000)}`
    const items = [{ sku, qty: 1, priceCents: amountCents }]
    const customerId = `cust-${Math.floor(this.#random() * 100_000)}`
    const order = { orderId: key, customerId, region, currency: 'EUR', items, createdAt: timeMs }
    if (this.#random() < PAID_SHARE) {
      const delayMs = 1 + Math.floor(-Math.log(1 - this.#random()) * PAYMENT_DELAY_MS)
      const due = { key, number, region, amountCents, timeMs: timeMs + delayMs }
      ;(this.#due[due.timeMs - anchorMs] ??= []).push(due)
    }
    return message(key, number, timeMs, this.#order.encode(order))
  }

  #paid({ key, number, region, amountCents, timeMs }: Due): Message {
    const payment = { paymentId: `pay-${number}`, orderId: key, amountCents }
    const value = { ...payment, method: 'card', authorizedAt: timeMs }
    this.#pace.onPayment(`${region}@${Math.floor(timeMs / WINDOW_MS) * WINDOW_MS}`, timeMs)
    return message(key, number, timeMs, this.#payment.encode(value))
  }
}

function message(key: string, number: number, timeMs: number, value: Buffer): Message {
  return { key, value, partition: number % PARTITIONS, timestamp: String(timeMs) }
}
