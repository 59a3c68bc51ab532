/** Why an instance drops what it has not committed: others may have its tasks. */
import type { Membership } from '../log/membership.ts'
import { type MillraceError, streamsError } from './errors.ts'

/** The error of an instance that its group may have lost. */
export function membershipLost({ status }: Membership): MillraceError {
  const reason =
    status.state === 'stable'
      ? 'no heartbeat was answered in time'
      : status.detail.replace(/\.$/, '')
  return streamsError('MEMBERSHIP_LOST', { reason })
}
