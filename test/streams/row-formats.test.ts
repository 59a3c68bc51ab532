/** Golden bytes of the rows that single steps keep. */
import { expect, test } from 'vitest'
import { sessionKey, sessionOfRow } from '../../state/keys.ts'
import type { Codec } from '../../state/port.ts'
import { json, text, textKey } from '../../streams/index.ts'
import { boundsRow, keyOfMark, liveSessionsCodec, markRow } from '../../streams/live-sessions.ts'
import { topEntryCodec } from '../../streams/operators/top-k.ts'
import { rankedKey } from '../../streams/ranked-key.ts'
import { decodeTimer, timerRow, timersDue } from '../../streams/timers.ts'
import { NO_VALUE, VersionedRow, versionedRowCodec } from '../../streams/versioned-row.ts'

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

test('a versioned row is its key, what the folded records came to, and the others', () => {
  const replay = {
    name: 'journal',
    key: textKey('account'),
    value: text(),
    state: json<string>() as Codec<unknown>,
    add: (before: unknown, note: unknown) => (note === null ? null : `${before ?? ''}${note}`),
    lastOnly: false,
  }
  const codec = versionedRowCodec(replay)
  const record = (timeMs: number, value: string | null) => {
    const note = value === null ? NO_VALUE : 0
    return { timeMs, source: 1, offset: 2, note, value: Buffer.from(value ?? '') }
  }
  const head = '01' + '00000001' + '61'
  const last = `${'4014000000000000'}00000001${'4000000000000000'.repeat(1)}${'0'.repeat(16)}00000001`
  const whole = new VersionedRow(replay, 'a').with(record(3, 'x')).with(record(5, 'y'))
  const folded = whole.trimmed(4, 1000)
  const bytes = codec.encode(folded)
  const order = `${'4008000000000000'}${'00000001'}${'4000000000000000'}`
  const ofState = `00000003${Buffer.from('"x"').toString('hex')}`
  const state = `04${order}${ofState}`
  const head2 = head.replace(/^01/, '02')
  expect(bytes.toString('hex')).toBe(`${head2}${state}${last}79`)
  const back = codec.decode(bytes)
  expect([back.key, back.value, back.timeMs, back.asOf(3), back.asOf(4)]).toEqual([
    'a',
    'xy',
    5,
    'x',
    'x',
  ])
  expect(() => back.asOf(2)).toThrow('begins at 3')
  const gone = codec.encode(new VersionedRow(replay, 'a').with(record(3, null)).trimmed(4, 1000))
  expect(gone.toString('hex')).toBe(`${head2}03${order}`)
  expect(codec.decode(gone).value).toBe(null)
  expect(codec.encode(whole).subarray(6, 7).toString('hex')).toBe('00')
  expect(() => codec.decode(bytes.subarray(0, 18))).toThrow(RangeError)
  const at = (timeMs: number, offset: number) => ({ timeMs, source: 1, offset })
  expect([back.takes(at(3, 1)), back.takes(at(3, 3)), back.takes(at(2, 9))]).toEqual([
    false,
    true,
    false,
  ])
  const old = Buffer.from(`${head}02${'4008000000000000'}${ofState}${last}79`, 'hex')
  const ofOld = codec.decode(old)
  expect([ofOld.value, ofOld.asOf(3), ofOld.takes(at(3, 3)), ofOld.takes(at(4, 0))]).toEqual([
    'xy',
    'x',
    false,
    true,
  ])
  expect(codec.encode(ofOld)).toEqual(old)
  const oldGone = Buffer.from(`${head}01${'4008000000000000'}`, 'hex')
  expect(codec.encode(codec.decode(oldGone))).toEqual(oldGone)
  expect(() => codec.decode(Buffer.of(3, 0, 0, 0, 0, 0))).toThrow('has format 2, not 3')
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
