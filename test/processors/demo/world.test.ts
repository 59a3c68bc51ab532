import { describe, expect, test } from 'vitest'
import { eventRecord } from '../../../contracts/event-record.ts'
import { validateEventLine } from '../../../contracts/validation.ts'
import {
  type GeneratedEvent,
  longHorizonMs,
  shortHorizonMs,
} from '../../../processors/demo/order-story.ts'
import { backlog, type DemoOptions, DemoWorld } from '../../../processors/demo/world.ts'
import { Random } from '../../support/random.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs
const monday = Date.UTC(2026, 0, 5)

function eventsOf(options: Partial<DemoOptions>, untilMs: number): GeneratedEvent[] {
  const world = new DemoWorld({ seed: 1, startMs: monday, ratePerSecond: 2, ...options })
  return world.advance(untilMs)
}

/** The story of two days, which several facts look at. */
const twoDays = eventsOf({}, monday + 2 * dayMs)

function ofType<T extends GeneratedEvent['event']['type']>(type: T) {
  return twoDays.filter(({ event, duplicate }) => event.type === type && !duplicate)
}

function share(count: number, of: number = twoDays.length): number {
  return count / of
}

describe('the demo world', () => {
  test('is the same for the same seed, and another for another seed', () => {
    const until = monday + hourMs
    expect(eventsOf({ seed: 7 }, until)).toEqual(eventsOf({ seed: 7 }, until))
    expect(eventsOf({ seed: 8 }, until)[0].event).not.toEqual(eventsOf({ seed: 7 }, until)[0].event)
  })

  test('is the same however its time is cut', () => {
    const world = new DemoWorld({ seed: 1, startMs: monday, ratePerSecond: 2 })
    const random = new Random(3)
    const events: GeneratedEvent[] = []
    for (let at = monday; at < monday + 2 * hourMs; ) {
      at += Math.floor(random.next() ** 3 * 200_000)
      events.push(...world.advance(at))
    }
    const until = monday + 2 * hourMs
    expect(events.filter(event => event.emittedAtMs < until)).toEqual(eventsOf({}, until))
  })

  test('goes on after a restart at any moment: no gap, nothing twice', () => {
    const options = { seed: 5, startMs: monday + 123, ratePerSecond: 1 }
    const untilMs = monday + 30 * hourMs
    const whole = new DemoWorld(options).advance(untilMs)
    const random = new Random(4)
    let world = new DemoWorld(options)
    const pieces: (readonly GeneratedEvent[])[] = []
    for (let restart = 0, at = monday; restart < 6; restart += 1) {
      at += Math.floor(random.next() * 8 * hourMs)
      pieces.push(world.advance(Math.min(at, untilMs)))
      world = DemoWorld.restore(JSON.parse(JSON.stringify(world.snapshot())))
    }
    pieces.push(world.advance(untilMs))
    expect(pieces.flat().length).toBe(whole.length)
    expect(JSON.stringify(pieces.flat())).toBe(JSON.stringify(whole))
    expect(new Set(whole.filter(one => !one.duplicate).map(one => one.ceId)).size).toBe(
      whole.filter(one => !one.duplicate).length,
    )
  })

  test('emits in order, never before it happened, and within the horizons it recalls', () => {
    const createdAt = new Map<string, number>()
    for (const { event } of ofType('OrderCreated')) {
      if (event.type === 'OrderCreated') createdAt.set(event.orderId, event.createdAt)
    }
    let last = monday
    let longest = 0
    let between = 0
    let misplaced = 0
    for (const event of twoDays) {
      if (event.emittedAtMs < last || event.emittedAtMs < event.eventTimeMs) misplaced += 1
      last = event.emittedAtMs
      // A repeat order is recalled with the order it follows.
      const created = createdAt.get(event.key.replace(/-again$/, ''))
      if (created === undefined) continue
      longest = Math.max(longest, last - created)
      if (last - created > shortHorizonMs) between += 1
    }
    expect(misplaced).toBe(0)
    expect(longest).toBeGreaterThan(longHorizonMs * 0.8)
    expect(longest).toBeLessThan(longHorizonMs)
    expect(between).toBeGreaterThan(100)
  })

  test('makes the events of the rate asked for, with and without payments', () => {
    for (const payments of [true, false]) {
      const ratePerSecond = 0.5
      const events = eventsOf({ payments, ratePerSecond }, monday + 7 * dayMs)
      const settled = events.filter(event => event.emittedAtMs >= monday + dayMs)
      const rate = settled.length / (6 * 86_400)
      expect(Math.abs(rate / ratePerSecond - 1)).toBeLessThan(0.05)
      expect(events.some(event => event.topic === 'payments')).toBe(payments)
    }
  })

  test('a backlog is the same history in chunks, and the world goes on after it', () => {
    const world = new DemoWorld({ seed: 1, startMs: monday, ratePerSecond: 2 })
    const toMs = monday + hourMs + 1234
    const chunks = [...backlog(world, toMs, 7 * minuteMs)]
    expect(chunks.map(chunk => (chunk.toMs - monday) / 1000)).toEqual([
      420, 840, 1260, 1680, 2100, 2520, 2940, 3360, 3601.234,
    ])
    const later = world.advance(monday + 2 * hourMs)
    const events = [...chunks.flatMap(chunk => chunk.events), ...later]
    expect(events).toEqual(eventsOf({}, monday + 2 * hourMs))
  })

  test('every event is a valid line of input', () => {
    const sample = twoDays.filter((_, i) => i % 97 === 0)
    const kinds = new Set<string>()
    for (const { topic, key, eventTimeMs, event, emittedAtMs, ceId } of sample) {
      const { type, ...value } = event
      const line = JSON.stringify({ topic, type, key, timestamp: eventTimeMs, value })
      const context = { nowMs: emittedAtMs, newId: () => ceId, source: 'demo' }
      const verdict = validateEventLine(line, context)
      expect(verdict).toEqual({
        ok: true,
        record: eventRecord(event, { id: ceId, source: 'demo' }),
      })
      kinds.add(type)
    }
    expect(kinds.size).toBe(5)
  })

  test('is out of order, seldom late, and repeats a few deliveries', () => {
    let latest = 0
    let disordered = 0
    let slow = 0
    let late = 0
    for (const { eventTimeMs, emittedAtMs } of twoDays) {
      if (eventTimeMs < latest) disordered += 1
      latest = Math.max(latest, eventTimeMs)
      if (emittedAtMs - eventTimeMs > 5000) slow += 1
      if (emittedAtMs - eventTimeMs > 10 * minuteMs) late += 1
    }
    expect(share(disordered)).toBeGreaterThan(0.05)
    expect(share(slow)).toBeGreaterThan(0.01)
    expect(share(slow)).toBeLessThan(0.04)
    expect(share(late)).toBeGreaterThan(0.0003)
    expect(share(late)).toBeLessThan(0.002)
    const repeats = twoDays.filter(event => event.duplicate)
    expect(share(repeats.length)).toBeGreaterThan(0.002)
    expect(share(repeats.length)).toBeLessThan(0.008)
    const first = new Map(twoDays.filter(one => !one.duplicate).map(one => [one.ceId, one]))
    for (const repeat of repeats) {
      const original = first.get(repeat.ceId)!
      expect(repeat.event).toBe(original.event)
      expect(repeat.emittedAtMs).toBeGreaterThan(original.emittedAtMs)
    }
  })
})
