/** The messages of one subscription, passed on: for who keeps no rows, or keeps them elsewhere. */
import type { ServerMessage } from '../contracts/live.ts'

export interface MessageHandlers {
  /** Messages of the subscription in their order, each snapshot from its beginning. */
  readonly onMessage: (message: ServerMessage) => void
  /** The connection was lost, or the view is not ready: a new snapshot comes when it is. */
  readonly onInterrupted: () => void
  /** The server refused or ended the subscription; it is not tried again. */
  readonly onError?: (error: { readonly code: string; readonly detail: string }) => void
}

export class FeedMessages {
  /** Nothing is kept, so there is nothing to resume from. */
  readonly position = undefined
  private readonly handlers: MessageHandlers

  constructor(handlers: MessageHandlers) {
    this.handlers = handlers
  }

  interrupted(): void {
    this.handlers.onInterrupted()
  }

  apply(message: ServerMessage): undefined {
    this.handlers.onMessage(message)
  }
}
