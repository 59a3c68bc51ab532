/**
 * A server of one busy view in a process of its own, so that its memory is its own; to be started
 * with `--expose-gc`. Messages command it: `churn` changes rows for so many rounds, `stop` ends it.
 */
import { fakeServer, volumeRow } from './fake-server.ts'

const limits = {
  publishIntervalMs: 5,
  clientBytesMax: 256 * 1024,
  socketsMax: 4096,
  initTimeoutMs: 60_000,
}
const { server, views } = await fakeServer({ limits })
const address = await server.listen({ host: '127.0.0.1', port: 0 })
const rowsChanged = 200
let round = 0

async function churn(rounds: number): Promise<void> {
  for (const end = round + rounds; round < end; round++) {
    const changed = Array.from({ length: rowsChanged }, (_, i) => volumeRow('eu', i, round))
    views.put('order-volume', ...changed)
    await new Promise(resolve => setTimeout(resolve, 6))
  }
}

/** What is in use. Resident memory depends, besides, on when V8 collects: by 30 MiB and more. */
function heldBytes(): number {
  globalThis.gc!()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

process.on('message', async (message: { churn?: number; stop?: true }) => {
  if (message.churn !== undefined) {
    await churn(message.churn)
    const { body } = await server.inject({ url: '/metrics' })
    process.send!({ heldBytes: heldBytes(), round: round - 1, metrics: body })
  }
  if (message.stop) {
    await server.close()
    process.disconnect()
  }
})
// A test that failed does not stop it.
process.on('disconnect', () => process.exit())
process.send!({ address })
