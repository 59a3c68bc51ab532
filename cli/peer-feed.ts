/** What another instance sends of a view, as updates of the partitions that run there. */
import type { MessageHandlers } from '../client/index.ts'
import type { ServerMessage } from '../contracts/live.ts'
import { encodePosition } from '../streams/position.ts'
import type { PartUpdate } from '../streams/views.ts'

/** Nothing is known of the peer's partitions: it has to tell anew. */
const nothing: PartUpdate = {
  position: encodePosition({ incarnation: '', offsets: {} }),
  partitions: [],
  changes: [],
  reset: true,
}

export class PeerFeed implements MessageHandlers {
  readonly #onUpdate: (update: PartUpdate) => void
  #partitions: readonly number[] = []

  constructor(onUpdate: (update: PartUpdate) => void) {
    this.#onUpdate = onUpdate
  }

  readonly onMessage = (message: ServerMessage): void => {
    switch (message.type) {
      case 'must-refetch':
        this.onInterrupted()
        return
      case 'up-to-date': {
        const { position, partitions = [] } = message
        this.#partitions = partitions
        this.#onUpdate({ position, partitions, changes: [], reset: true })
        return
      }
      case 'delta': {
        const { position, changes } = message
        this.#onUpdate({ position, partitions: this.#partitions, changes })
        return
      }
    }
  }

  readonly onInterrupted = (): void => {
    if (this.#partitions.length === 0) return
    this.#partitions = []
    this.#onUpdate(nothing)
  }
}
