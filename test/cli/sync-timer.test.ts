import { expect, test } from 'vitest'
import { syncEvery } from '../../cli/sync-timer.ts'

/** Timers that run when told. */
function timers() {
  const due: { task: () => void; delayMs: number }[] = []
  return {
    due,
    schedule(task: () => void, delayMs: number) {
      const timer = { task, delayMs }
      due.push(timer)
      return () => {
        due.splice(due.indexOf(timer), 1)
      }
    },
    run() {
      due.shift()?.task()
    },
  }
}

test('the log is forced to the disk an interval after the last time, never twice at once', async () => {
  const clock = timers()
  const syncs: (() => void)[] = []
  const sync = () => new Promise<void>(resolve => syncs.push(resolve))
  const timer = syncEvery({ sync }, 50, clock)
  expect(clock.due).toMatchObject([{ delayMs: 50 }])
  clock.run()
  expect([syncs.length, clock.due.length]).toEqual([1, 0])
  syncs[0]!()
  await new Promise(setImmediate)
  expect(clock.due).toHaveLength(1)
  clock.run()
  let stopped = false
  const stop = timer.stop().then(() => {
    stopped = true
  })
  await new Promise(setImmediate)
  expect(stopped, 'while one runs').toBe(false)
  syncs[1]!()
  await stop
  expect(clock.due).toEqual([])
})

test('a disk that fails once is not asked again: the service learns of it', async () => {
  const clock = timers()
  const timer = syncEvery({ sync: () => Promise.reject(new Error('EIO')) }, 50, clock)
  clock.run()
  await expect(timer.failed).rejects.toThrow('EIO')
  expect(clock.due).toEqual([])
  await timer.stop()
})

test('never is no timer', async () => {
  const clock = timers()
  const timer = syncEvery({ sync: () => Promise.resolve() }, Number.POSITIVE_INFINITY, clock)
  expect(clock.due).toEqual([])
  await timer.stop()
})
