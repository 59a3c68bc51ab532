/** What is known of topics: asked for when unknown, old or found stale, many names at once. */
import type { TopicMetadata } from './cluster-apis.ts'

export interface TopicCacheOptions {
  readonly clock: () => number
  readonly maxAgeMs: number
  /** One request; answers in any order, undefined for what does not exist. */
  readonly load: (names: readonly string[]) => Promise<readonly (TopicMetadata | undefined)[]>
  /** Before it is asked once more for what was known: a broker may lag behind the others. */
  readonly beforeDoubt: () => Promise<void>
}

interface Entry {
  readonly topic: TopicMetadata
  readonly atMs: number
  stale: boolean
}

interface Question {
  readonly names: Set<string>
  readonly answer: Promise<void>
}

export class TopicCache {
  readonly #options: TopicCacheOptions
  readonly #entries = new Map<string, Entry>()
  readonly #ids = new Map<string, string>()
  /** Collects names until it is sent, in the next microtask. */
  #next: Question | undefined

  constructor(options: TopicCacheOptions) {
    this.#options = options
  }

  async get(name: string): Promise<TopicMetadata | undefined> {
    const entry = this.#entries.get(name)
    if (entry !== undefined && this.#isFresh(entry)) return entry.topic
    await this.#ask(name)
    return this.#entries.get(name)?.topic
  }

  byId(id: string): TopicMetadata | undefined {
    const name = this.#ids.get(id)
    return name === undefined ? undefined : this.#entries.get(name)?.topic
  }

  stale(name: string): void {
    const entry = this.#entries.get(name)
    if (entry !== undefined) entry.stale = true
  }

  staleLeader(node: number): void {
    for (const entry of this.#entries.values()) {
      if (entry.topic.partitions.some(({ leader }) => leader === node)) entry.stale = true
    }
  }

  #isFresh({ stale, atMs }: Entry): boolean {
    return !stale && this.#options.clock() - atMs < this.#options.maxAgeMs
  }

  #ask(name: string): Promise<void> {
    if (this.#next === undefined) {
      const names = new Set<string>()
      const answer = Promise.resolve().then(() => {
        this.#next = undefined
        return this.#load([...names])
      })
      this.#next = { names, answer }
    }
    this.#next.names.add(name)
    return this.#next.answer
  }

  async #load(names: readonly string[]): Promise<void> {
    const found = await this.#find(names)
    const doubtful = names.filter(name => !found.has(name) && this.#entries.has(name))
    if (doubtful.length > 0) {
      await this.#options.beforeDoubt()
      for (const [name, topic] of await this.#find(doubtful)) found.set(name, topic)
    }
    for (const name of names) {
      const topic = found.get(name)
      if (topic === undefined) this.#forget(name)
      else this.#remember(topic)
    }
  }

  async #find(names: readonly string[]): Promise<Map<string, TopicMetadata>> {
    const found = new Map<string, TopicMetadata>()
    for (const topic of await this.#options.load(names)) {
      if (topic !== undefined) found.set(topic.name, topic)
    }
    return found
  }

  #forget(name: string): void {
    const entry = this.#entries.get(name)
    if (entry !== undefined) this.#ids.delete(entry.topic.id)
    this.#entries.delete(name)
  }

  #remember(topic: TopicMetadata): void {
    const before = this.#entries.get(topic.name)?.topic
    if (before !== undefined && before.id !== topic.id) this.#ids.delete(before.id)
    const newest = before?.id === topic.id ? newerLeaders(before, topic) : topic
    this.#ids.set(topic.id, topic.name)
    this.#entries.set(topic.name, { topic: newest, atMs: this.#options.clock(), stale: false })
  }
}

/** A broker that lags behind may tell of an older leader than another one did. */
function newerLeaders(before: TopicMetadata, after: TopicMetadata): TopicMetadata {
  const partitions = after.partitions.map((partition, i) => {
    const known = before.partitions[i]
    return known !== undefined && known.leaderEpoch > partition.leaderEpoch ? known : partition
  })
  return { ...after, partitions }
}
