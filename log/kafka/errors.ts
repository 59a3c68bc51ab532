/** The Kafka driver's rows of the error catalogue; those that both drivers raise are in `log/`. */
import { type ErrorRow, errorsOf, type MillraceError } from '../errors.ts'
import { ErrorCode, isTransient, nameOf } from './error-codes.ts'

export const kafkaCatalogue = {
  KAFKA_UNREACHABLE: {
    message: 'Broker {broker} gave no answer to {request}: {reason}.',
    recovery: 'retry',
    status: 503,
  },
  KAFKA_UNSUPPORTED: {
    message:
      'The Kafka cluster at {broker} lacks {missing}. Millrace needs Apache Kafka 4.2 or newer with the features transaction.version 2 and streams.version 1 (kafka-features.sh upgrade).',
    recovery: 'stop',
    status: 503,
  },
  KAFKA_AUTHENTICATION: {
    message:
      'Broker {broker} did not accept the connection: {reason}. Check the TLS and SASL settings.',
    recovery: 'stop',
    status: 503,
  },
  KAFKA_RESPONSE: {
    message: 'The answer of broker {broker} to {request} cannot be read: {reason}.',
    recovery: 'stop',
    status: 502,
  },
  KAFKA_UNAVAILABLE: {
    message: 'Kafka cannot carry out {request} now: {error}{detail}.',
    recovery: 'retry',
    status: 503,
  },
  KAFKA_REFUSED: {
    message: 'Kafka refused {request}: {error}{detail}.',
    recovery: 'stop',
    status: 502,
  },
  KAFKA_FORBIDDEN: {
    message:
      'Kafka does not allow {request}, {error}: the right {operation} on {kind} {name} is missing. Grant it with kafka-acls.sh --add --allow-principal User:… --operation {operation} --{kind} {name}, and start again.',
    recovery: 'stop',
    status: 503,
  },
  GROUP_TOPOLOGY_INVALID: {
    message: 'Kafka cannot run this topology: {reason}.',
    recovery: 'stop',
    status: 500,
  },
  GROUP_TOPOLOGY_DIFFERS: {
    message:
      'Group {group} runs another topology than this instance. Stop all its instances, then start this one: it takes over their offsets and stores.',
    recovery: 'stop',
    status: 409,
  },
  GROUP_HAS_MEMBERS: {
    message:
      'The topology of group {group} has changed ({changes}), and members still run the old one: {members}. Stop them and start again; one that was killed counts until its session timeout, {sessionTimeoutMs} ms.',
    recovery: 'stop',
    status: 409,
  },
  GROUP_NOT_EMPTY: {
    message: 'Group {group} has members, so its offsets cannot be replaced. Stop them first.',
    recovery: 'stop',
    status: 409,
  },
  GROUP_OF_OTHER_KIND: {
    message:
      'Group {group} exists and is no streams group: another kind of consumer uses the name. Choose another application name, or stop that consumer and delete its group.',
    recovery: 'stop',
    status: 409,
  },
  GROUP_REFUSED: {
    message: 'Kafka refused this instance as a member of group {group}: {error}, {reason}.',
    recovery: 'stop',
    status: 502,
  },
  GROUP_SOURCES_MISSING: {
    message: 'Group {group} waits for its input topics: {detail}. Create them.',
    recovery: 'retry',
    status: 503,
  },
  GROUP_PARTITIONS_DIFFER: {
    message:
      'Group {group} cannot place its tasks: {detail}. Topics whose records meet need equal partition counts; keys move when a topic grows.',
    recovery: 'stop',
    status: 503,
  },
  GROUP_TOPICS_MISSING: {
    message:
      'Group {group} waits for the topics that Kafka creates for it: {detail}. If this lasts, the broker may not create them.',
    recovery: 'retry',
    status: 503,
  },
  KAFKA_TRANSACTION_ABORTED: {
    message:
      'The transaction of {transactionalId} was not committed, nothing of it is visible: {reason}.',
    recovery: 'retry',
    status: 503,
  },
  KAFKA_OUTCOME_UNKNOWN: {
    message:
      'It is not known whether the transaction of {transactionalId} was committed: {reason}. Settle it, then compare the committed offsets.',
    recovery: 'restore',
    status: 503,
  },
  KAFKA_PRODUCER_FENCED: {
    message:
      'The producer of {transactionalId} is no longer the current one ({reason}): another one took its place, or its transaction timed out. Open it anew if this instance still owns its tasks.',
    recovery: 'rejoin',
    status: 503,
  },
  KAFKA_MEMBER_FENCED: {
    message:
      'Group {group} did not take offsets from member {memberId} at epoch {memberEpoch}: {reason}. The transaction was aborted.',
    recovery: 'rejoin',
    status: 503,
  },
  KAFKA_FETCH_EMPTY: {
    message:
      'The leader of {topic}-{partition} gives nothing at offset {offset}, though it has records up to {endOffset}.',
    recovery: 'retry',
    status: 503,
  },
  KAFKA_STATE_UNWRITTEN: {
    message:
      'The transaction is committed, but the local state of it could not be written: {reason}. The state is rebuilt from its changelogs.',
    recovery: 'restore',
    status: 503,
  },
  KAFKA_OFFSETS_LOST: {
    message:
      'Group {group} had committed an offset of {topic}-{partition}, and its coordinator has none any more. If it expired or was deleted, reset the application with `millrace reset`.',
    recovery: 'stop',
    status: 503,
  },
  KAFKA_OFFSETS_HELD: {
    message:
      'The offset of group {group} for {topic}-{partition} has been held by an open transaction for {waitedMs} ms. Find it with kafka-transactions.sh find-hanging, and abort it.',
    recovery: 'retry',
    status: 503,
  },
  KAFKA_MEMBER_STALE: {
    message: 'Group {group} does not know member {memberId} at epoch {memberEpoch}: {reason}.',
    recovery: 'retry',
    status: 503,
  },
} as const satisfies Record<string, ErrorRow>

export const kafkaError = errorsOf(kafkaCatalogue)

/** What a request needs to be allowed; the kind of the resource is in the refusal's code. */
export type Right = readonly [operation: string, name: string]

const kindsForbidden: ReadonlyMap<number, string> = new Map([
  [ErrorCode.TOPIC_AUTHORIZATION_FAILED, 'topic'],
  [ErrorCode.GROUP_AUTHORIZATION_FAILED, 'group'],
  [ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 'transactional-id'],
])

/** KAFKA_FORBIDDEN when the code says that a right is missing. */
export function forbidden(
  request: string,
  code: number,
  [operation, name]: Right,
): MillraceError | undefined {
  const kind = kindsForbidden.get(code)
  if (kind === undefined) return undefined
  return kafkaError('KAFKA_FORBIDDEN', { request, error: nameOf(code), operation, kind, name })
}

/** A code as an error: KAFKA_FORBIDDEN, KAFKA_UNAVAILABLE when it may pass, else KAFKA_REFUSED. */
export function refusalOf(
  request: string,
  code: number,
  { detail = '', right }: { detail?: string; right?: Right } = {},
): MillraceError {
  const denial = right && forbidden(request, code, right)
  if (denial !== undefined) return denial
  const details = { request, error: nameOf(code), detail }
  return kafkaError(isTransient(code) ? 'KAFKA_UNAVAILABLE' : 'KAFKA_REFUSED', details)
}
