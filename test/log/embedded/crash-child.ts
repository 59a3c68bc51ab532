/**
 * Commits transactions for ever, several at a time, and tells each acknowledgement on standard
 * output: it runs until it is killed. Argument: the database's folder.
 */
import { writeSync } from 'node:fs'
import { openEmbeddedLog } from '../../../log/embedded/index.ts'
import { openRocksDB } from '../../../state/rocksdb.ts'
import { batchOf } from '../batches.ts'
import { environment } from './environment.ts'

const database = await openRocksDB(process.argv[2])
const log = await openEmbeddedLog(database, environment, { bootId: 'boot', activeBytes: 1 })
if (!(await log.describeTopic('orders'))) {
  await log.createTopic('orders', 2)
  await log.createTopic('table', 1, { cleanup: 'compact' })
}
const p0 = { topic: 'orders', partition: 0 }
const p1 = { topic: 'orders', partition: 1 }
const table = { topic: 'table', partition: 0 }
let next = (await log.offsets([p0]))[0].endOffset

async function commitOne(n: number): Promise<void> {
  const transaction = log.begin()
  transaction.append(p0, batchOf(`n=${n}`))
  transaction.append(p1, batchOf(`n=${n}`))
  transaction.append(table, batchOf(`k${n % 10}=${n}`))
  await transaction.commit({
    group: 'g',
    offsets: [{ ...p0, offset: n + 1, metadata: '' }],
    state: (receipts, batch) =>
      batch.put(Buffer.from('M1'), Buffer.from(`${receipts[0].nextOffset}`)),
  })
  writeSync(1, `${n}\n`)
}

writeSync(1, 'ready\n')
for (let round = 0; ; round++) {
  const some = Array.from({ length: 1 + (round % 5) }, () => commitOne(next++))
  await Promise.all(some)
  if (round % 50 === 49) await log.maintain(round)
}
