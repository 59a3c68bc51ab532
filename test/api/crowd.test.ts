/** A thousand clients that never read, beside some that do. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { LiveSocket } from '../support/live-socket.ts'
import { frame, type RawSocket, upgraded } from '../support/raw-socket.ts'

const deafClients = 1000
const readers = 5
/** Rounds: 30 KB each. */
const STEP = 8
const heldBytesMax = 32 * 1024 * 1024

interface Churned {
  readonly heldBytes: number
  readonly round: number
  readonly metrics: string
}

async function deaf(address: string): Promise<RawSocket> {
  const raw = await upgraded(address)
  const text = (message: string) => frame({ head: 0x81, payload: Buffer.from(message) })
  raw.send(text('{"type":"connection_init"}'))
  raw.send(text('{"type":"subscribe","id":"s","view":"order-volume"}'))
  raw.socket.pause()
  return raw
}

test('1,000 clients that never read cost bounded memory, and others miss nothing', async () => {
  const child = fork(join(import.meta.dirname, '../support/crowd-server.ts'), {
    execArgv: [...process.execArgv, '--expose-gc'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const next = async <T>() => (await once(child, 'message'))[0] as T
  const { address } = await next<{ address: string }>()
  const counted = ({ metrics }: Churned, name: string) =>
    Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1])
  const reading = await Promise.all(
    Array.from({ length: readers }, async () => {
      const live = await LiveSocket.connected(address)
      live.send({ type: 'subscribe', id: 's', view: 'order-volume' })
      await live.until(() => live.types().includes('up-to-date'))
      return live
    }),
  )
  /** Readers have the last round, and got there by deltas alone. */
  const caughtUp = async (round: number) => {
    for (const live of reading) {
      await live.until(() => live.deltas().some(({ changes }) => changes[0]?.row.orders === round))
      expect(live.closed).toBeUndefined()
      expect(live.types()).not.toContain('must-refetch')
      live.messages.length = 0
    }
  }
  /** In steps below a client's budget: readers that stand still meanwhile miss nothing. */
  const churn = async (rounds: number): Promise<Churned> => {
    let heldBytes = 0
    for (let left = rounds; ; left -= STEP) {
      child.send({ churn: STEP })
      const step = await next<Churned>()
      await caughtUp(step.round)
      heldBytes = Math.max(heldBytes, step.heldBytes)
      if (left <= STEP) return { ...step, heldBytes }
    }
  }
  // Twice: what is measured against is a server that has been busy for a while.
  await churn(300)
  const before = await churn(300)
  const crowd: RawSocket[] = []
  while (crowd.length < deafClients) {
    crowd.push(...(await Promise.all(Array.from({ length: 50 }, () => deaf(address)))))
  }
  let heldBytes = 0
  let after: Churned
  do {
    after = await churn(50)
    heldBytes = Math.max(heldBytes, after.heldBytes)
  } while (counted(after, 'live_slow_clients_closed_total') < deafClients && after.round < 5_000)
  expect(counted(after, 'live_slow_clients_closed_total')).toBe(deafClients)
  expect(heldBytes - before.heldBytes).toBeLessThan(heldBytesMax)
  child.send({ stop: true })
  await once(child, 'exit')
  for (const raw of crowd) raw.destroy()
})
