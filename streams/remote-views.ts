/**
 * The port to the other instances of the group: what one asks another, so that each can answer
 * for whole views. An instance that is asked answers for what runs there and never asks on.
 */
import { MillraceError } from './errors.ts'
import type { PartViews } from './views.ts'

/** Where an instance can be asked, as the group tells it. */
export interface Peer {
  readonly host: string
  readonly port: number
}

export function peerName({ host, port }: Peer): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

export interface RemoteViews {
  /** Names this run of this instance: positions of its live feeds are no other's. */
  readonly id: string
  /** Where the others can ask this instance; undefined where they cannot. */
  readonly self: Peer | undefined
  /**
   * Requests end early with the reason of their signal. They throw VIEW_NOT_READY and the errors
   * of a position as the peer does, and PEER_UNREACHABLE for everything else. A feed whose
   * connection is lost says so with a reset to no partitions, and comes back by itself.
   */
  at(peer: Peer): PartViews
}

/** Errors that may pass as tasks arrive where they move. */
export function passes(error: unknown): error is MillraceError {
  const codes = ['VIEW_NOT_READY', 'PEER_UNREACHABLE']
  return error instanceof MillraceError && codes.includes(error.code)
}
