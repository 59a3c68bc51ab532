/** Events waiting for their moment, earliest first; equal moments by id, so that order is total. */
import type { GeneratedEvent } from './order-story.ts'

export class EventQueue {
  private readonly heap: GeneratedEvent[] = []

  get size(): number {
    return this.heap.length
  }

  /** When the next event is due; Infinity when there is none. */
  get nextMs(): number {
    return this.heap.length === 0 ? Number.POSITIVE_INFINITY : this.heap[0].emittedAtMs
  }

  push(event: GeneratedEvent): void {
    const { heap } = this
    let at = heap.push(event) - 1
    while (at > 0) {
      const parent = (at - 1) >>> 1
      if (!isBefore(event, heap[parent])) break
      heap[at] = heap[parent]
      at = parent
    }
    heap[at] = event
  }

  /** Removes and returns the earliest; there must be one. */
  pop(): GeneratedEvent {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()!
    if (heap.length > 0) this.sink(last)
    return first
  }

  private sink(event: GeneratedEvent): void {
    const { heap } = this
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child += 1
      if (!isBefore(heap[child], event)) break
      heap[at] = heap[child]
      at = child
    }
    heap[at] = event
  }
}

function isBefore(a: GeneratedEvent, b: GeneratedEvent): boolean {
  if (a.emittedAtMs !== b.emittedAtMs) return a.emittedAtMs < b.emittedAtMs
  if (a.ceId !== b.ceId) return a.ceId < b.ceId
  return !a.duplicate && b.duplicate
}
