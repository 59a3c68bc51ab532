/** The state folder's rows of the error catalogue; `log/errors.ts` explains the mechanism. */
import { type ErrorRow, errorsOf } from '../log/errors.ts'

export { assert, MillraceError } from '../log/errors.ts'

export const stateCatalogue = {
  DATABASE_LOCKED: {
    message:
      'The database {path} is in use by another process{owner}. One process at a time may open a data directory: stop the other one, or give this one its own directory.',
    recovery: 'stop',
    status: 500,
  },
  DATABASE_NATIVE_MISSING: {
    message: 'The RocksDB library could not be loaded: {reason}. {hint}',
    recovery: 'stop',
    status: 500,
  },
  DATABASE_CORRUPT: {
    message:
      'The database {path} is damaged{where}: {reason}. Nothing was served from it. `millrace doctor` says what is damaged, `millrace doctor --salvage` keeps what is readable; or restore the directory from a copy.',
    recovery: 'stop',
    status: 500,
  },
  DATABASE_OPEN_FAILED: {
    message: 'The database {path} could not be opened: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  DATABASE_READ_FAILED: {
    message: 'The database {path} could not be read: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  DATABASE_WRITE_FAILED: {
    message: 'The database {path} could not be written: {reason}. Nothing of the batch was kept.',
    recovery: 'restore',
    status: 500,
  },
  RESTORE_STUCK: {
    message:
      'Restoring from {topic}-{partition} stands at offset {position} before its end {endOffset}: the log gives nothing more. On Kafka a transaction without an end may hold it (kafka-transactions.sh find-hanging); otherwise reset the application with `millrace reset` to rebuild its state from its input.',
    recovery: 'restore',
    status: 503,
  },
  CHANGELOG_MISSING: {
    message:
      'The changelog topic {topic} does not exist, although its store is part of the topology. Start again to have it created, or reset the application with `millrace reset` if it was deleted.',
    recovery: 'retry',
    status: 503,
  },
  CHANGELOG_RECREATED: {
    message:
      'The changelog {topic} was deleted and created anew: rows of partition {partition} went to topic id {was}, and it is now {is}. State that is nowhere else is lost with it. Reset the application with `millrace reset` to rebuild its state from its input.',
    recovery: 'stop',
    status: 500,
  },
  CHANGELOG_TRUNCATED: {
    message:
      'The changelog {topic}-{partition} begins at offset {startOffset}, and local rows end at {offset}: records between them were deleted by somebody else, and state is lost with them. Reset the application with `millrace reset` to rebuild its state from its input.',
    recovery: 'stop',
    status: 500,
  },
  BLOCK_MISSING: {
    message:
      'The block at offset {offset} of the changelog {topic}-{partition} is not there or is not whole, although live state refers to it. Reset the application with `millrace reset` to rebuild its state from its input.',
    recovery: 'stop',
    status: 500,
  },
  CHANGELOG_FOREIGN: {
    message:
      'The changelog {topic}-{partition} holds a batch at offset {offset} that this store cannot have written: {reason}. Reset the application with `millrace reset`, or start the topology that wrote it.',
    recovery: 'stop',
    status: 500,
  },
  STATE_FOREIGN: {
    message:
      'The state in this database was written by another topology or release: {reason}. Give the steps whose stores differ new names, and they are built from the input beside the old ones; or reset all with `millrace reset`; or start what wrote it.',
    recovery: 'stop',
    status: 500,
  },
  DATABASE_CLOSED: {
    message: 'The database {path} is closed.',
    recovery: 'stop',
    status: 503,
  },
} as const satisfies Record<string, ErrorRow>

export const stateError = errorsOf(stateCatalogue)
