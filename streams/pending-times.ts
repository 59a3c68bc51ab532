/** A multiset of times that knows its smallest: a binary heap with counts, lazily cleaned. */
export class PendingTimes {
  readonly #heap: number[] = []
  readonly #counts = new Map<number, number>()

  /** Adds (or, with a negative count, removes) so many of a time. */
  add(timeMs: number, count: number): void {
    const before = this.#counts.get(timeMs)
    if (before === undefined && count > 0) this.#push(timeMs)
    const after = (before ?? 0) + count
    if (after > 0 || before !== undefined || count > 0) this.#counts.set(timeMs, Math.max(after, 0))
  }

  /** The smallest time present; Infinity when there is none. */
  first(): number {
    const heap = this.#heap
    while (heap.length > 0 && this.#counts.get(heap[0]!) === 0) {
      this.#counts.delete(heap[0]!)
      this.#pop()
    }
    return heap[0] ?? Number.POSITIVE_INFINITY
  }

  #push(timeMs: number): void {
    const heap = this.#heap
    let i = heap.push(timeMs) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (heap[parent]! <= timeMs) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = timeMs
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++
      if (heap[child]! >= last) break
      heap[i] = heap[child]!
      i = child
    }
    heap[i] = last
  }
}
