/** The header of a record that goes back to its topic, and what is none. */
import { expect, test } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import type { Header } from '../../log/record-headers.ts'
import { replayTargetOf, withoutReplay, withReplayHeader } from '../../streams/replay-header.ts'

function targetOf(headers: readonly Header[]) {
  const builder = new RecordBatchBuilder()
  builder.append(1, null, null, headers)
  return replayTargetOf(decodeBatches(builder.finish()).runs[0]!, 0)
}

const own: Header[] = [
  ['ce_id', Buffer.from('e1')],
  ['empty', null],
]
const letter = {
  application: 'shop',
  offset: 17,
  step: 'a step',
  original: { offset: 4, run: 'id/2' },
}

test('its bytes are these, behind the others, and there is one', () => {
  const headers = withReplayHeader(own, letter)
  expect(headers.slice(0, 2)).toEqual(own)
  expect(headers.slice(2)).toEqual([
    ['dl_replayed', Buffer.from('4 id/2')],
    ['dl_replay', Buffer.from('1 shop 17 a step\xff', 'latin1')],
  ])
  const { application, step, original } = letter
  expect(targetOf(headers)).toEqual({ application, step, original })
  const again = withReplayHeader(headers, { ...letter, offset: 18 })
  expect(again.map(([name]) => name)).toEqual(['ce_id', 'empty', 'dl_replayed', 'dl_replay'])
  expect(withoutReplay(again)).toEqual(own)
})

test('that of a letter of an older release does not say where its record was', () => {
  const headers = withReplayHeader(own, { ...letter, original: undefined })
  expect(headers[2]).toEqual(['dl_replay', Buffer.from('1 shop 17 a step\xff', 'latin1')])
  const target = { application: 'shop', step: 'a step', original: undefined }
  expect(targetOf(headers)).toEqual(target)
})

test('other headers, places, versions and texts are none', () => {
  const value = Buffer.from('1 shop 17 step\xff', 'latin1')
  expect(targetOf([])).toBe(undefined)
  expect(targetOf([['dl_replay', value], ...own])).toBe(undefined)
  expect(targetOf([['other', value]])).toBe(undefined)
  expect(targetOf([['dl_replay', Buffer.from('1 shop 17 step')]])).toBe(undefined)
  expect(targetOf([['dl_replay', Buffer.from('2 shop 17 step\xff', 'latin1')]])).toBe(undefined)
  const foreign: Header = ['dl_replayed', Buffer.from('x')]
  expect(targetOf([foreign, ['dl_replay', value]])?.original).toBe(undefined)
  expect(targetOf([['dl_replay', Buffer.from('\xff', 'latin1')]])).toBe(undefined)
})
