import { expect, test } from 'vitest'
import { Turns } from '../../streams/turns.ts'

/** Takes a turn and notes it; the result ends it. */
async function take(turns: Turns, name: string, taken: string[], signal?: AbortSignal) {
  const end = await turns.take(signal)
  taken.push(name)
  return end
}

const settled = () => new Promise(resolve => setImmediate(resolve))

test('so many work at once, the others in the order in which they came', async () => {
  const turns = new Turns(2)
  const taken: string[] = []
  const ends = ['a', 'b', 'c', 'd'].map(name => take(turns, name, taken))
  await settled()
  expect(taken).toEqual(['a', 'b'])
  const endB = await ends[1]!
  endB()
  endB()
  await settled()
  expect(taken).toEqual(['a', 'b', 'c'])
  ;(await ends[0]!)()
  await settled()
  expect(taken).toEqual(['a', 'b', 'c', 'd'])
})

test('who is called off while it waits takes no turn from others', async () => {
  const turns = new Turns(1)
  const taken: string[] = []
  const end = await take(turns, 'a', taken)
  const calledOff = new AbortController()
  const b = take(turns, 'b', taken, calledOff.signal)
  const c = take(turns, 'c', taken)
  calledOff.abort(new Error('given up'))
  await expect(b).rejects.toThrow('given up')
  end()
  await c
  expect(taken).toEqual(['a', 'c'])
  await expect(turns.take(calledOff.signal)).rejects.toThrow('given up')
})
