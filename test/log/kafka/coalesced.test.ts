import { expect, test } from 'vitest'
import { logError } from '../../../log/errors.ts'
import { Coalesced } from '../../../log/kafka/coalesced.ts'
import { environment } from './environment.ts'

/** Answers a number with its double; `sent` gets what each request asked. */
function doubling(refuse: (asks: readonly number[]) => void = () => {}) {
  const sent: (readonly number[])[] = []
  const doubled = new Coalesced<number, number>(environment, async asks => {
    sent.push(asks)
    refuse(asks)
    return asks.map(ask => ask * 2)
  })
  return { doubled, sent }
}

test('what is asked at the same time is one request, and everybody gets his own answers', async () => {
  const { doubled, sent } = doubling()
  const answers = await Promise.all([doubled.ask([1, 2]), doubled.ask([]), doubled.ask([3])])
  expect(answers).toEqual([[2, 4], [], [6]])
  expect(sent).toEqual([[1, 2, 3]])
  expect(await doubled.ask([4])).toEqual([8])
  expect(sent).toHaveLength(2)
})

test('an error that one of them caused is his alone', async () => {
  const { doubled } = doubling(asks => {
    if (asks.includes(13)) throw logError('TOPIC_MISSING', { topic: '13' })
  })
  const answers = await Promise.allSettled([doubled.ask([1]), doubled.ask([13]), doubled.ask([2])])
  expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
})

test('an error that passes is told to all, and not waited for again by each', async () => {
  const { doubled, sent } = doubling(() => {
    throw logError('LOG_BUSY', { waitingBytes: 1 })
  })
  const answers = await Promise.allSettled([doubled.ask([1]), doubled.ask([2])])
  expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(sent).toHaveLength(1)
})
