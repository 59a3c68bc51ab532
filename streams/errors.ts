/** The engine's rows of the error catalogue; `log/errors.ts` explains the mechanism. */
import { AssertionFailed, type ErrorRow, errorsOf, MillraceError } from '../log/errors.ts'

export { AssertionFailed, assert, type ErrorRow, errorsOf, MillraceError } from '../log/errors.ts'

/** Trying again does not help: the application stops. */
export function isFinal(error: unknown): boolean {
  if (error instanceof AssertionFailed) return true
  return error instanceof MillraceError && error.recovery === 'stop'
}

export const streamsCatalogue = {
  TOPOLOGY_INVALID: {
    message: 'The topology is invalid: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  APPLICATIONS_CLASH: {
    message:
      'These applications cannot run on one log and data folder: {reason}. Give one of them another name.',
    recovery: 'stop',
    status: 500,
  },
  TOPOLOGY_CHANGED: {
    message:
      'The state in this database was written by another topology: {reason}. Give the steps whose stores differ new names, and they are built from the input; or reset all with `millrace reset`; or start the topology that wrote it.',
    recovery: 'stop',
    status: 500,
  },
  STATE_PASSED: {
    message:
      'The step {step} has state from before it was taken out of the topology, and its input was read on without it: results would lack what came meanwhile. Give it and its stores new names, or delete what the store {store} holds, with its changelog {topic}, with `millrace reset STEP`, and it is built from its input.',
    recovery: 'stop',
    status: 500,
  },
  VALUE_NOT_PLAIN: {
    message:
      'A value cannot cross to another instance: {path} is of type {type}, which would be lost. Give the grouping a value serde.',
    recovery: 'stop',
    status: 500,
  },
  EXCHANGE_BROKEN: {
    message:
      'Offset {offset} of the repartition topic {topic}-{partition} cannot be read: {reason}. Only Millrace writes there: a foreign writer or a damaged broker disk is the likely cause. Reset the application with `millrace reset`.',
    recovery: 'stop',
    status: 500,
  },
  MEMBERSHIP_LOST: {
    message:
      'This instance is no longer a live member of its group: {reason}. It drops what is not committed, answers no queries, and goes on when the group has it back.',
    recovery: 'retry',
    status: 503,
  },
  EXCHANGE_PASSED: {
    message:
      'Offset {offset} of the repartition topic {topic}-{partition} is no longer there, which begins at {startOffset}: another instance has read on and trimmed it, so the task has moved. This instance asks its group which tasks it holds.',
    recovery: 'rejoin',
    status: 503,
  },
  STATE_TOO_LARGE: {
    message:
      'A batch of {size} bytes for {topic} holds state or records on their way to another step, and the topic takes {limit}. Raise its max.message.bytes, or keep less in one row; nothing is lost, the input is read again.',
    recovery: 'stop',
    status: 500,
  },
  OFFSET_LOST: {
    message:
      'Offset {offset} of {topic}-{partition} is not in the log, which has {startOffset} to {endOffset}: records were deleted before they were processed. Reset the application with `millrace reset` to go on from what is there.',
    recovery: 'stop',
    status: 500,
  },
  OFFSETS_MISSING: {
    message:
      'The group {group} has no committed offset for {topic}-{partition}, although its records are in the state already: the offsets expired or were deleted. Going on from the start would count them twice. Reset the application with `millrace reset`, or put the offset back with kafka-consumer-groups --reset-offsets; the log has {startOffset} to {endOffset}.',
    recovery: 'stop',
    status: 500,
  },
  SOURCE_MISSING: {
    message: 'The input topic {topic} does not exist, and creating topics is turned off.',
    recovery: 'stop',
    status: 500,
  },
  TOPIC_UNSAFE: {
    message:
      'The topic {topic} of this application does not keep what is written to it ({hazards}). Repair it with kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {wanted}, then start again; if it has lost records already, reset the application with `millrace reset`.',
    recovery: 'stop',
    status: 500,
  },
  SOURCE_DELETED: {
    message:
      'The topic {topic} was deleted while it was read; what was read from it is in the state. Restore it from a copy, or create it anew and reset the application with `millrace reset`.',
    recovery: 'stop',
    status: 500,
  },
  VIEW_UNKNOWN: { message: 'There is no view named {view}.', recovery: 'reject', status: 404 },
  VIEW_NOT_READY: {
    message: 'The view {view} is not ready: {reason}.',
    recovery: 'reject',
    status: 503,
  },
  PEER_UNREACHABLE: {
    message: 'The instance at {peer} did not answer: {reason}.',
    recovery: 'retry',
    status: 503,
  },
  POSITION_TIMEOUT: {
    message: 'The views did not reach the requested position within {timeoutMs} ms.',
    recovery: 'retry',
    status: 503,
  },
  CURSOR_INVALID: {
    message: 'The cursor is not one that this view gave out for the same filters.',
    recovery: 'reject',
    status: 400,
  },
  POSITION_INVALID: {
    message: 'The position token is not one that this service gave out.',
    recovery: 'reject',
    status: 400,
  },
  POSITION_LOST: {
    message:
      'The position is beyond the recovered end of the log: the machine lost its last moments. Fetch the view again.',
    recovery: 'reject',
    status: 409,
  },
  HISTORY_GONE: {
    message:
      'The history of {view} begins at {historyFrom} (epoch ms): what was at {asOf} is not kept any more. Ask as of a later time.',
    recovery: 'reject',
    status: 410,
  },
  LETTER_UNKNOWN: {
    message: 'There is no dead letter {letter}.',
    recovery: 'reject',
    status: 404,
  },
  LETTER_SETTLED: {
    message: 'The dead letter {letter} has been replayed: there is nothing left to discard.',
    recovery: 'reject',
    status: 409,
  },
  LETTER_NOT_REPLAYABLE: {
    message: 'The dead letter {letter} cannot be replayed: {reason}.',
    recovery: 'reject',
    status: 409,
  },
  LETTERS_BUSY: {
    message:
      'The dead letters of {application} are being replayed or discarded by others; nothing more was done, try again.',
    recovery: 'retry',
    status: 503,
  },
  QUERY_INVALID: {
    message: 'Query parameter {parameter}: {reason}.',
    recovery: 'reject',
    status: 400,
  },
} as const satisfies Record<string, ErrorRow>

export const streamsError = errorsOf(streamsCatalogue)
