/** The command line's rows of the error catalogue; `log/errors.ts` explains the mechanism. */
import { type ErrorRow, errorsOf } from '../log/errors.ts'

export const cliCatalogue = {
  USAGE: { message: '{reason}', recovery: 'stop', status: 500 },
  SETTINGS_INVALID: {
    message: 'These settings cannot be used:\n{problems}',
    recovery: 'stop',
    status: 500,
  },
  INSTANCE_UNREACHABLE: {
    message: 'The instance at {url} cannot be asked: {reason}.',
    recovery: 'retry',
    status: 503,
  },
  INSTANCE_NEEDED: {
    message:
      'No instance runs on {dataDir}, and on Kafka commands ask one: start it with `millrace start`, or name one with --url.',
    recovery: 'stop',
    status: 500,
  },
  INSTANCE_REFUSED: {
    message: 'The instance at {url} answered {status}: {reason}.',
    recovery: 'stop',
    status: 502,
  },
  INSTANCE_FOREIGN: {
    message: 'What answers at {url} is no Millrace instance: {reason}.',
    recovery: 'stop',
    status: 502,
  },
  RECORDED_SCHEMA: {
    message:
      'Offset {offset} of {topic}-{partition} in the recording is the event {type}, and its schema id {id} stands for {actual} here: name the registry of the log that was recorded in REGISTRY_URL.',
    recovery: 'stop',
    status: 409,
  },
  RECORDED_EVENT: {
    message:
      'The event at offset {offset} of {topic}-{partition} in the recording cannot be moved in time: {reason}.',
    recovery: 'stop',
    status: 409,
  },
  FILE_UNREADABLE: {
    message: 'The file {path} cannot be read: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  FILE_UNWRITABLE: {
    message: 'The file {path} cannot be written: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  RECORDING_IN_USE: {
    message:
      'Process {pid} writes the recording {path}: wait for its end. If that is no `millrace`, delete {lock}.',
    recovery: 'stop',
    status: 409,
  },
  DATA_MISSING: {
    message: 'There is no database in {dataDir}: name the data folder with --data-dir.',
    recovery: 'stop',
    status: 500,
  },
  DATA_IN_USE: {
    message: 'The instance {pid} at {url} has {dataDir} open: stop it first.',
    recovery: 'stop',
    status: 409,
  },
  SALVAGE_NEEDLESS: {
    message:
      '{dataDir} holds a copy of what is on Kafka: a start sets a damaged database aside and builds it anew.',
    recovery: 'stop',
    status: 409,
  },
  SALVAGE_IMPOSSIBLE: {
    message:
      'The database cannot be opened in any way, so nothing of it can be kept: {reason}. Restore the data directory from a copy.',
    recovery: 'stop',
    status: 500,
  },
  DASHBOARD_BUILD_FAILED: {
    message: 'The dashboard could not be built: {reason}.',
    recovery: 'stop',
    status: 500,
  },
} as const satisfies Record<string, ErrorRow>

export const cliError = errorsOf(cliCatalogue)
