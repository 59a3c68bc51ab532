/** `millrace/client`: the typed client of the live protocol and of rows over HTTP. */
export type { MessageHandlers } from './feed-messages.ts'
export {
  type ConnectionState,
  connectLive,
  type LiveConnection,
  type LiveOptions,
  type LiveSubscription,
  type SocketConstructor,
  type SubscriptionHandlers,
  type SubscriptionRequest,
} from './live.ts'
export type { RowsEvent } from './live-rows.ts'
export { fetchRows, ProblemError, type RowsPage, type RowsRequest } from './rows.ts'
