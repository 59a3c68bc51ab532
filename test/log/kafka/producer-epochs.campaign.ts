/**
 * Fault 8: a producer id has 32,767 epochs, and every transaction takes one, so at ten a second
 * they last for 55 minutes. This takes them up to the last ones, then commits across the end, the
 * answer to each commit lost once.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Cluster } from '../../../log/kafka/cluster.ts'
import { endTxnV5, initProducerIdV5 } from '../../../log/kafka/producer-wire.ts'
import type { Campaign } from '../../support/campaigns.ts'
import { appendOf, startBehindProxies, Workplace } from './producing.ts'

const EPOCH_MAX = 0x7fff
const TRANSACTIONS = 12

/** Takes all epochs but a few: an abort of nothing takes one too, in less than a millisecond. */
async function exhaust(cluster: Cluster, transactionalId: string, leave: number): Promise<number> {
  const node = await cluster.coordinator('transaction', transactionalId)
  const nobody = { producerId: -1, epoch: -1 }
  const NOT_COORDINATOR = 16
  let identity = { errorCode: NOT_COORDINATOR, ...nobody }
  while (identity.errorCode !== 0) {
    const args = [transactionalId, 10_000, nobody] as const
    identity = await cluster.call(node, 'coordinator', initProducerIdV5, ...args)
  }
  while (identity.epoch < EPOCH_MAX - leave) {
    const args = [transactionalId, identity, false] as const
    const next = await cluster.call(node, 'coordinator', endTxnV5, ...args)
    if (next.errorCode === 0) identity = next
  }
  return identity.producerId
}

export const campaign: Campaign = {
  name: 'kafka-epochs',
  async run({ log }) {
    const { kafka, proxy, stop } = await startBehindProxies()
    const place = new Workplace(kafka.bootstrap)
    const notes: string[] = []
    try {
      const topic = await place.topic()
      const transactionalId = 'kafka-epochs'
      const cluster = await place.cluster(proxy.bootstrap)
      // Of tens of thousands of requests some take longer than a second.
      const patient = await place.cluster(kafka.bootstrap, 30_000)
      const firstId = await exhaust(patient, transactionalId, TRANSACTIONS / 2)
      const producer = await place.producer(cluster, { transactionalId })
      const identities = [producer.identity]
      const written = Array.from({ length: TRANSACTIONS }, (_, i) => `${i}`)
      for (const value of written) {
        const lost = proxy.rule({ api: 'endTxn', on: 'reply', fault: 'cut' })
        await producer.transact({ appends: [appendOf(topic, 0, value)] })
        if (lost.hits !== 1) notes.push(`no answer was lost with ${value}`)
        identities.push(producer.identity)
      }
      const shown = identities.map(({ producerId, epoch }) => `${producerId}/${epoch}`).join(' ')
      log(`identities ${shown}`)
      const ids = new Set(identities.map(({ producerId }) => producerId))
      if (ids.size !== 2 || !ids.has(firstId)) notes.push(`the id did not rotate once: ${shown}`)
      const [read] = await place.read(topic)
      if (!isDeepStrictEqual(read, written)) notes.push(`read ${read}`)
    } finally {
      await place.close()
      await stop()
    }
    return { passed: notes.length === 0 ? 1 : 0, failed: notes.length, notes }
  },
}
