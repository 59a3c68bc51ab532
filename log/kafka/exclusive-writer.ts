/** Transactions under a transactional id that somebody else may take over at any time. */
import { logError, MillraceError } from '../errors.ts'
import type { AppendReceipt, ExclusiveWriter } from '../port.ts'
import type { ProducerSeat } from './producer-seat.ts'
import { KafkaTransaction } from './transaction.ts'

/** `run` counts a call as under way, so that the log's close waits for it. */
export function exclusiveWriter(
  seat: ProducerSeat,
  name: string,
  run: (work: () => Promise<readonly AppendReceipt[]>) => Promise<readonly AppendReceipt[]>,
): ExclusiveWriter {
  let replaced: MillraceError | undefined
  return {
    begin: () =>
      new KafkaTransaction(appends =>
        run(async () => {
          // The seat would take the id back.
          if (replaced !== undefined) throw replaced
          try {
            return await seat.transact({ appends })
          } catch (cause) {
            if (!(cause instanceof MillraceError && cause.code === 'KAFKA_PRODUCER_FENCED')) {
              throw cause
            }
            replaced = logError('WRITER_REPLACED', { name }, { cause })
            throw replaced
          }
        }),
      ),
    close: () => seat.close(),
  }
}
