/**
 * Kafka's error codes, complete to 4.3.0, and what a client does about each.
 *
 * Source: `org.apache.kafka.common.protocol.Errors` of kafka-clients 4.3.0, number, name and the
 * class of the exception behind it. The kind is that class (KIP-1050):
 * `RefreshRetriableException` is `refresh`, other `RetriableException`s are `retriable`,
 * `ApplicationRecoverableException` is `fenced`, and what is none of these is `fatal`. By hand:
 *
 * - NOT_CONTROLLER is `refresh`: asking another broker is what cures it.
 * - `abortable`, where Java's `TransactionManager` moves to its abortable state though the
 *   exception's class does not say so: codes about the records or their sequence in a produce
 *   request (10, 18, 32, 45, 46, 59, 76, 87), and TRANSACTION_ABORTABLE.
 * - `fenced`: INVALID_TXN_STATE (a transaction that the coordinator timed out, KIP-890),
 *   TRANSACTION_COORDINATOR_FENCED, and the member epochs of KIP-848 and KIP-1071 (110, 113).
 *
 * A request may know better than this table: its own file says where.
 */

/**
 * - `retriable`: the same request may be sent again, after a pause.
 * - `refresh`: as that, after finding the leader, coordinator or topic anew.
 * - `fenced`: the sender's id or epoch is no longer current; it begins anew.
 * - `abortable`: the transaction is to be aborted, the producer may go on.
 * - `fatal`: sending it again cannot help.
 */
export type ErrorKind = 'none' | 'retriable' | 'refresh' | 'fenced' | 'abortable' | 'fatal'

const table = [
  [-1, 'UNKNOWN_SERVER_ERROR', 'fatal'],
  [0, 'NONE', 'none'],
  [1, 'OFFSET_OUT_OF_RANGE', 'fatal'],
  [2, 'CORRUPT_MESSAGE', 'retriable'],
  [3, 'UNKNOWN_TOPIC_OR_PARTITION', 'refresh'],
  [4, 'INVALID_FETCH_SIZE', 'fatal'],
  [5, 'LEADER_NOT_AVAILABLE', 'refresh'],
  [6, 'NOT_LEADER_OR_FOLLOWER', 'refresh'],
  [7, 'REQUEST_TIMED_OUT', 'retriable'],
  [8, 'BROKER_NOT_AVAILABLE', 'fatal'],
  [9, 'REPLICA_NOT_AVAILABLE', 'refresh'],
  [10, 'MESSAGE_TOO_LARGE', 'abortable'],
  [11, 'STALE_CONTROLLER_EPOCH', 'fatal'],
  [12, 'OFFSET_METADATA_TOO_LARGE', 'fatal'],
  [13, 'NETWORK_EXCEPTION', 'refresh'],
  [14, 'COORDINATOR_LOAD_IN_PROGRESS', 'retriable'],
  [15, 'COORDINATOR_NOT_AVAILABLE', 'refresh'],
  [16, 'NOT_COORDINATOR', 'refresh'],
  [17, 'INVALID_TOPIC_EXCEPTION', 'fatal'],
  [18, 'RECORD_LIST_TOO_LARGE', 'abortable'],
  [19, 'NOT_ENOUGH_REPLICAS', 'retriable'],
  [20, 'NOT_ENOUGH_REPLICAS_AFTER_APPEND', 'retriable'],
  [21, 'INVALID_REQUIRED_ACKS', 'fatal'],
  [22, 'ILLEGAL_GENERATION', 'fenced'],
  [23, 'INCONSISTENT_GROUP_PROTOCOL', 'fatal'],
  [24, 'INVALID_GROUP_ID', 'fatal'],
  [25, 'UNKNOWN_MEMBER_ID', 'fenced'],
  [26, 'INVALID_SESSION_TIMEOUT', 'fatal'],
  [27, 'REBALANCE_IN_PROGRESS', 'fatal'],
  [28, 'INVALID_COMMIT_OFFSET_SIZE', 'fatal'],
  [29, 'TOPIC_AUTHORIZATION_FAILED', 'fatal'],
  [30, 'GROUP_AUTHORIZATION_FAILED', 'fatal'],
  [31, 'CLUSTER_AUTHORIZATION_FAILED', 'fatal'],
  [32, 'INVALID_TIMESTAMP', 'abortable'],
  [33, 'UNSUPPORTED_SASL_MECHANISM', 'fatal'],
  [34, 'ILLEGAL_SASL_STATE', 'fatal'],
  [35, 'UNSUPPORTED_VERSION', 'fatal'],
  [36, 'TOPIC_ALREADY_EXISTS', 'fatal'],
  [37, 'INVALID_PARTITIONS', 'fatal'],
  [38, 'INVALID_REPLICATION_FACTOR', 'fatal'],
  [39, 'INVALID_REPLICA_ASSIGNMENT', 'fatal'],
  [40, 'INVALID_CONFIG', 'fatal'],
  [41, 'NOT_CONTROLLER', 'refresh'],
  [42, 'INVALID_REQUEST', 'fatal'],
  [43, 'UNSUPPORTED_FOR_MESSAGE_FORMAT', 'fatal'],
  [44, 'POLICY_VIOLATION', 'fatal'],
  [45, 'OUT_OF_ORDER_SEQUENCE_NUMBER', 'abortable'],
  [46, 'DUPLICATE_SEQUENCE_NUMBER', 'abortable'],
  [47, 'INVALID_PRODUCER_EPOCH', 'fenced'],
  [48, 'INVALID_TXN_STATE', 'fenced'],
  [49, 'INVALID_PRODUCER_ID_MAPPING', 'fenced'],
  [50, 'INVALID_TRANSACTION_TIMEOUT', 'fatal'],
  [51, 'CONCURRENT_TRANSACTIONS', 'retriable'],
  [52, 'TRANSACTION_COORDINATOR_FENCED', 'fenced'],
  [53, 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED', 'fatal'],
  [54, 'SECURITY_DISABLED', 'fatal'],
  [55, 'OPERATION_NOT_ATTEMPTED', 'fatal'],
  [56, 'KAFKA_STORAGE_ERROR', 'refresh'],
  [57, 'LOG_DIR_NOT_FOUND', 'fatal'],
  [58, 'SASL_AUTHENTICATION_FAILED', 'fatal'],
  [59, 'UNKNOWN_PRODUCER_ID', 'abortable'],
  [60, 'REASSIGNMENT_IN_PROGRESS', 'fatal'],
  [61, 'DELEGATION_TOKEN_AUTH_DISABLED', 'fatal'],
  [62, 'DELEGATION_TOKEN_NOT_FOUND', 'fatal'],
  [63, 'DELEGATION_TOKEN_OWNER_MISMATCH', 'fatal'],
  [64, 'DELEGATION_TOKEN_REQUEST_NOT_ALLOWED', 'fatal'],
  [65, 'DELEGATION_TOKEN_AUTHORIZATION_FAILED', 'fatal'],
  [66, 'DELEGATION_TOKEN_EXPIRED', 'fatal'],
  [67, 'INVALID_PRINCIPAL_TYPE', 'fatal'],
  [68, 'NON_EMPTY_GROUP', 'fatal'],
  [69, 'GROUP_ID_NOT_FOUND', 'fatal'],
  [70, 'FETCH_SESSION_ID_NOT_FOUND', 'retriable'],
  [71, 'INVALID_FETCH_SESSION_EPOCH', 'retriable'],
  [72, 'LISTENER_NOT_FOUND', 'refresh'],
  [73, 'TOPIC_DELETION_DISABLED', 'fatal'],
  [74, 'FENCED_LEADER_EPOCH', 'refresh'],
  [75, 'UNKNOWN_LEADER_EPOCH', 'retriable'],
  [76, 'UNSUPPORTED_COMPRESSION_TYPE', 'abortable'],
  [77, 'STALE_BROKER_EPOCH', 'fatal'],
  [78, 'OFFSET_NOT_AVAILABLE', 'retriable'],
  [79, 'MEMBER_ID_REQUIRED', 'fatal'],
  [80, 'PREFERRED_LEADER_NOT_AVAILABLE', 'refresh'],
  [81, 'GROUP_MAX_SIZE_REACHED', 'fatal'],
  [82, 'FENCED_INSTANCE_ID', 'fenced'],
  [83, 'ELIGIBLE_LEADERS_NOT_AVAILABLE', 'refresh'],
  [84, 'ELECTION_NOT_NEEDED', 'refresh'],
  [85, 'NO_REASSIGNMENT_IN_PROGRESS', 'fatal'],
  [86, 'GROUP_SUBSCRIBED_TO_TOPIC', 'fatal'],
  [87, 'INVALID_RECORD', 'abortable'],
  [88, 'UNSTABLE_OFFSET_COMMIT', 'retriable'],
  [89, 'THROTTLING_QUOTA_EXCEEDED', 'retriable'],
  [90, 'PRODUCER_FENCED', 'fenced'],
  [91, 'RESOURCE_NOT_FOUND', 'fatal'],
  [92, 'DUPLICATE_RESOURCE', 'fatal'],
  [93, 'UNACCEPTABLE_CREDENTIAL', 'fatal'],
  [94, 'INCONSISTENT_VOTER_SET', 'fatal'],
  [95, 'INVALID_UPDATE_VERSION', 'fatal'],
  [96, 'FEATURE_UPDATE_FAILED', 'fatal'],
  [97, 'PRINCIPAL_DESERIALIZATION_FAILURE', 'fatal'],
  [98, 'SNAPSHOT_NOT_FOUND', 'fatal'],
  [99, 'POSITION_OUT_OF_RANGE', 'fatal'],
  [100, 'UNKNOWN_TOPIC_ID', 'refresh'],
  [101, 'DUPLICATE_BROKER_REGISTRATION', 'fatal'],
  [102, 'BROKER_ID_NOT_REGISTERED', 'fatal'],
  [103, 'INCONSISTENT_TOPIC_ID', 'refresh'],
  [104, 'INCONSISTENT_CLUSTER_ID', 'fatal'],
  [105, 'TRANSACTIONAL_ID_NOT_FOUND', 'fatal'],
  [106, 'FETCH_SESSION_TOPIC_ID_ERROR', 'retriable'],
  [107, 'INELIGIBLE_REPLICA', 'fatal'],
  [108, 'NEW_LEADER_ELECTED', 'fatal'],
  [109, 'OFFSET_MOVED_TO_TIERED_STORAGE', 'fatal'],
  [110, 'FENCED_MEMBER_EPOCH', 'fenced'],
  [111, 'UNRELEASED_INSTANCE_ID', 'fatal'],
  [112, 'UNSUPPORTED_ASSIGNOR', 'fatal'],
  [113, 'STALE_MEMBER_EPOCH', 'fenced'],
  [114, 'MISMATCHED_ENDPOINT_TYPE', 'fatal'],
  [115, 'UNSUPPORTED_ENDPOINT_TYPE', 'fatal'],
  [116, 'UNKNOWN_CONTROLLER_ID', 'fatal'],
  [117, 'UNKNOWN_SUBSCRIPTION_ID', 'fatal'],
  [118, 'TELEMETRY_TOO_LARGE', 'fatal'],
  [119, 'INVALID_REGISTRATION', 'fatal'],
  [120, 'TRANSACTION_ABORTABLE', 'abortable'],
  [121, 'INVALID_RECORD_STATE', 'fatal'],
  [122, 'SHARE_SESSION_NOT_FOUND', 'retriable'],
  [123, 'INVALID_SHARE_SESSION_EPOCH', 'retriable'],
  [124, 'FENCED_STATE_EPOCH', 'fatal'],
  [125, 'INVALID_VOTER_KEY', 'fatal'],
  [126, 'DUPLICATE_VOTER', 'fatal'],
  [127, 'VOTER_NOT_FOUND', 'fatal'],
  [128, 'INVALID_REGULAR_EXPRESSION', 'fatal'],
  [129, 'REBOOTSTRAP_REQUIRED', 'fatal'],
  [130, 'STREAMS_INVALID_TOPOLOGY', 'fatal'],
  [131, 'STREAMS_INVALID_TOPOLOGY_EPOCH', 'fatal'],
  [132, 'STREAMS_TOPOLOGY_FENCED', 'fatal'],
  [133, 'SHARE_SESSION_LIMIT_REACHED', 'retriable'],
] as const satisfies readonly (readonly [number, string, ErrorKind])[]

export type ErrorName = (typeof table)[number][1]

/** Numbers by name: `ErrorCode.NOT_COORDINATOR`. */
export const ErrorCode = Object.fromEntries(table.map(([code, name]) => [name, code])) as Readonly<
  Record<ErrorName, number>
>

const rows: ReadonlyMap<number, (typeof table)[number]> = new Map(
  table.map(row => [row[0], row] as const),
)

/** A code that this table does not know is of a newer broker: `fatal`. */
export function kindOf(code: number): ErrorKind {
  return rows.get(code)?.[2] ?? 'fatal'
}

/** For messages: `NOT_COORDINATOR (16)`. */
export function nameOf(code: number): string {
  return `${rows.get(code)?.[1] ?? 'an unknown error'} (${code})`
}

/** May the same request succeed later, at this broker or another? */
export function isTransient(code: number): boolean {
  const kind = kindOf(code)
  return kind === 'retriable' || kind === 'refresh'
}
