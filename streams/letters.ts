/** Dead letters as the API sees them. */
export {
  type ActRequest,
  type DeadLetterAdmin,
  type LetterAction,
  type LetterFilter,
  type LetterOutcome,
  type LetterState,
  letterId,
  parseLetterId,
  type StoredLetter,
} from './dead-letter-admin.ts'
export type { OriginalRecord } from './dead-letter-original.ts'
export { type DeadLetter, type Digest, isDigest } from './dead-letter-record.ts'
export { sideReasons } from './operator.ts'
