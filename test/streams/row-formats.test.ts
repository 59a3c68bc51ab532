/** Golden bytes of the rows that single steps keep. */
import { expect, test } from 'vitest'
import { sessionKey, sessionOfRow } from '../../state/keys.ts'
import { json, textKey } from '../../streams/index.ts'
import { boundsRow, keyOfMark, liveSessionsCodec, markRow } from '../../streams/live-sessions.ts'
import { topEntryCodec } from '../../streams/operators/top-k.ts'
import { rankedKey } from '../../streams/ranked-key.ts'
import { decodeTimer, timerRow, timersDue } from '../../streams/timers.ts'

const hex = (row: string) => Buffer.from(row, 'latin1').toString('hex')
const SECOND = '80000000000003e8'
const TWO_SECONDS = '80000000000007d0'

test('a session row is first event, key with its end, last event', () => {
  const row = sessionKey(1000, 'a\0', 2000)
  expect(hex(row)).toBe(`${SECOND}6100ff0001${TWO_SECONDS}`)
  expect(sessionOfRow(row)).toEqual({ start: 1000, key: 'a\0', end: 2000 })
})

test('live sessions are pairs of times; marks lie by time', () => {
  const sessions = [
    { start: 1, end: 2 },
    { start: 5, end: 5 },
  ]
  const bytes = liveSessionsCodec.encode(sessions)
  expect(bytes.toString('hex')).toBe(
    '3ff000000000000040000000000000004014000000000000' + '4014000000000000',
  )
  expect(liveSessionsCodec.decode(bytes)).toEqual(sessions)
  expect(() => liveSessionsCodec.decode(bytes.subarray(1))).toThrow(RangeError)
  expect(hex(boundsRow('a'))).toBe('6b61')
  expect(hex(markRow(1000, 'a'))).toBe(`74${SECOND}61`)
  expect(keyOfMark(markRow(1000, 'a'))).toBe('a')
})

test('a ranked key is its group with its end, then the rank', () => {
  const serde = rankedKey(textKey('group'))
  const row = serde.encode({ group: 'é', rank: 258 })
  expect(hex(row)).toBe('c3a9000100000102')
  expect(serde.decode(row)).toEqual({ group: 'é', rank: 258 })
  expect(serde.fields).toEqual(['group', 'rank'])
  expect(serde.integers).toEqual(['rank'])
})

test('a ranked entry is the length of its item, the item, the value', () => {
  const codec = topEntryCodec(json())
  const bytes = codec.encode({ item: 'é', value: 7 })
  expect(bytes.toString('hex')).toBe('00000002c3a937')
  expect(codec.decode(bytes)).toEqual({ item: 'é', value: 7 })
  expect(() => codec.decode(bytes.subarray(0, 5))).toThrow(RangeError)
})

test('a timer is its clock, time, key with its end, and name', () => {
  const timer = { clock: 'event', atMs: 1000, key: 'a\0b', name: 'é' } as const
  const row = timerRow(timer)
  expect(hex(row)).toBe(`65${SECOND}6100ff620001c3a9`)
  expect(decodeTimer(row)).toEqual(timer)
  const wall = { ...timer, clock: 'wall', key: '' } as const
  expect(hex(timerRow(wall)).slice(0, 2)).toBe('77')
  expect(decodeTimer(timerRow(wall))).toEqual(wall)
  const due = timersDue('event', 1000)
  expect(row >= due.gte && row < due.lt).toBe(true)
  expect(timerRow({ ...timer, atMs: 1001 }) < due.lt).toBe(false)
})
