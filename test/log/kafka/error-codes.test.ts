import { expect, test } from 'vitest'
import { ErrorCode, isTransient, kindOf, nameOf } from '../../../log/kafka/error-codes.ts'

test('codes are told apart as the Java client tells them apart', () => {
  const kinds = (
    ['NONE', 'NOT_LEADER_OR_FOLLOWER', 'NOT_COORDINATOR', 'COORDINATOR_LOAD_IN_PROGRESS'] as const
  ).map(name => kindOf(ErrorCode[name]))
  expect(kinds).toEqual(['none', 'refresh', 'refresh', 'retriable'])
  expect(kindOf(ErrorCode.PRODUCER_FENCED)).toBe('fenced')
  expect(kindOf(ErrorCode.ILLEGAL_GENERATION)).toBe('fenced')
  expect(kindOf(ErrorCode.TRANSACTION_ABORTABLE)).toBe('abortable')
  expect(kindOf(ErrorCode.TOPIC_AUTHORIZATION_FAILED)).toBe('fatal')
  expect(isTransient(ErrorCode.UNSTABLE_OFFSET_COMMIT)).toBe(true)
  expect(isTransient(ErrorCode.INVALID_PRODUCER_EPOCH)).toBe(false)
})

test('codes above 127 are named, and one of a newer broker is fatal', () => {
  expect(nameOf(130)).toBe('STREAMS_INVALID_TOPOLOGY (130)')
  expect(nameOf(999)).toBe('an unknown error (999)')
  expect(kindOf(999)).toBe('fatal')
})
