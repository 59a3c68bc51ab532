/** Rows of the error catalogue about recordings; `log/errors.ts` explains the mechanism. */
import { type ErrorRow, errorsOf } from '../log/errors.ts'

export const recordingCatalogue = {
  RECORDING_FOREIGN: {
    message: '{path} is not a recording: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  RECORDING_VERSION: {
    message:
      'The recording {path} has format version {found}; this version reads {expected}. Use the version that wrote it.',
    recovery: 'stop',
    status: 500,
  },
  RECORDING_DAMAGED: {
    message:
      'The recording {path} is damaged at byte {position}: {reason}. What lies before it can be read: `millrace inspect` shows it.',
    recovery: 'stop',
    status: 500,
  },
  RECORDING_MISMATCH: {
    message: 'The recording {path} cannot be continued: {reason}.',
    recovery: 'stop',
    status: 409,
  },
  RECORDING_WRITE_FAILED: {
    message:
      'The recording {path} cannot be written: {reason}. What it has is readable; mend the cause and go on with --resume.',
    recovery: 'stop',
    status: 500,
  },
  RECORD_SOURCE_LOST: {
    message:
      'Offset {offset} of {topic}-{partition} can no longer be recorded: {reason}. What was recorded before is kept.',
    recovery: 'stop',
    status: 410,
  },
  RECORD_SOURCE_CORRUPT: {
    message:
      '{topic}-{partition} cannot be recorded from offset {offset} on: {reason} What was recorded before is kept.',
    recovery: 'stop',
    status: 500,
  },
  TARGET_PARTITIONS: {
    message:
      'Topic {topic} has {actual} partitions at the target and {expected} in the recording, and a replay keeps partitions: delete the topic there or replay into another target; `millrace convert` to lines and `millrace import` put records by their keys instead.',
    recovery: 'stop',
    status: 409,
  },
  RECORD_NOT_EVENT: {
    message:
      'The record is no event that the service takes over HTTP. Replay it to kafka:// or to a folder.',
    recovery: 'reject',
    status: 400,
  },
} as const satisfies Record<string, ErrorRow>

export const recordingError = errorsOf(recordingCatalogue)
