/** One subscription, its client in the test's hand. */
import { expect, test } from 'vitest'
import { ClientAccount } from '../../api/client-account.ts'
import type { ServerContext } from '../../api/context.ts'
import { Feeds } from '../../api/feed.ts'
import { defaultLimits } from '../../api/limits.ts'
import { createServerMetrics } from '../../api/metrics.ts'
import { type Frame, Subscriber } from '../../api/subscriber.ts'
import { streamsError } from '../../streams/errors.ts'
import { testViews, volumeRow, volumeView } from '../support/fake-server.ts'
import { FakeViews } from '../support/fake-views.ts'

function serving() {
  const views = new FakeViews(testViews)
  const context = {
    views,
    clock: () => 0,
    schedule: () => () => {},
    limits: defaultLimits,
    metrics: createServerMetrics(),
    onClose: new Set(),
  } as Partial<ServerContext> as ServerContext
  const feeds = new Feeds(context)
  let unsent = 0
  const begin = (resume?: string) => {
    const frames: Frame[] = []
    const errors: unknown[] = []
    const account = new ClientAccount(
      { unsentBytes: () => unsent, closed: () => false, dropSlow: () => {} },
      context,
    )
    const sink = {
      account,
      send: (frame: Frame) => void frames.push(frame),
      fail: (error: unknown) => void errors.push(error),
    }
    const feed = feeds.of(volumeView)
    const subscriber = new Subscriber(feed, { key: {} }, sink, context)
    subscriber.start(resume)
    const types = () => frames.map(({ type }) => type)
    return { subscriber, frames, errors, account, feed, types }
  }
  return {
    views,
    begin,
    fill: () => {
      unsent = defaultLimits.conflateBytes + 1
    },
    empty: () => {
      unsent = 0
    },
  }
}

const settled = () => new Promise(resolve => setImmediate(resolve))

test('a client that comes back with a full line gets what it missed, once it has read', async () => {
  const { views, begin, fill, empty } = serving()
  const first = begin()
  await settled()
  const resume = first.frames.at(-1)!.position!
  first.subscriber.close()
  const position = views.put('order-volume', volumeRow('eu', 1, 7))
  fill()
  const again = begin(resume)
  await settled()
  expect(again.types()).toEqual([])
  empty()
  again.account.taken()
  await settled()
  expect(again.types()).toEqual(['delta', 'up-to-date'])
  expect(again.frames.map(frame => frame.position)).toEqual([position, position])
  expect(again.frames[0]!.body.toString()).toContain('"orders":7')
})

test('a snapshot that a reset cut short is begun anew, not an end of the subscription', async () => {
  const { views, begin } = serving()
  views.put('order-volume', volumeRow('eu', 1, 1), volumeRow('us', 1, 1))
  views.chunkRows = 1
  const subscribe = views.subscribe.bind(views)
  let snapshots = 0
  views.subscribe = (name, onUpdate, scope) => {
    const made = subscribe(name, onUpdate, scope)
    if (scope === null || ++snapshots > 1) return made
    async function* broken() {
      for await (const chunk of made.snapshot) {
        yield chunk
        views.reset()
        throw streamsError('VIEW_NOT_READY', { view: name, reason: 'its partitions are moving' })
      }
    }
    return { ...made, snapshot: broken() }
  }
  const { types, errors } = begin()
  for (let turns = 0; turns < 5; turns++) await settled()
  expect(errors).toEqual([])
  expect(types()).toEqual(['must-refetch', 'snapshot', 'up-to-date'])
})

test('who comes back at a position gets what changed at it without new input', async () => {
  const { views, begin } = serving()
  const position = views.put('order-volume', volumeRow('eu', 1, 1))
  const first = begin()
  await settled()
  expect(first.frames.at(-1)!.position).toBe(position)
  first.subscriber.close()
  const final = { ...volumeRow('eu', 1, 1), final: true }
  views.commitInPlace({ 'order-volume': [{ op: 'upsert', row: final }] })
  first.feed.publish()
  const again = begin(position)
  await settled()
  expect(again.types()).toEqual(['delta', 'up-to-date'])
  expect(again.frames[0]!.body.toString()).toContain('"final":true')
})
