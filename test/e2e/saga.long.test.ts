/**
 * Some hundred orders through the services as processes that are killed. The campaign `saga` does
 * more of it. Both wait more than they work, so they run side by side.
 */
import { describe, type TestContext, test } from 'vitest'
import { assertSaidTheSame, killedSaga, type SagaPlace, undisturbed } from '../crash/saga-proof.ts'
import { startKafka, steady } from '../support/kafka/kafka.ts'
import { kafkaIsMissing } from '../support/kafka/shared.ts'
import { scratchFolder } from '../support/service-process.ts'

const TEST_MS = 600_000
const KILLS = 2
const story = { orders: 300, seed: 5, disorder: true }
/** Longer than a killed process takes to come back; on Kafka with its tasks. */
const PATIENCE_MS = 15_000

async function prove({ expect, onTestFinished }: TestContext, place: Omit<SagaPlace, 'folder'>) {
  const { path: folder, remove } = await scratchFolder()
  onTestFinished(remove)
  const kills = { kills: KILLS, apartMsMax: 300, patienceMs: PATIENCE_MS, feedMs: 200 }
  const found = await killedSaga(story, { ...place, folder }, kills)
  assertSaidTheSame(found.events, await undisturbed(story))
  expect(found.unreadAtKills).toHaveLength(KILLS)
  expect(found.poison).toBeGreaterThan(0)
  const ended = [...found.books.ended.values()]
  for (const ending of ['fulfilled', 'cancelled']) expect(ended).toContain(ending)
}

describe.concurrent('the saga, killed, late, twice and poisoned, ends as undisturbed', () => {
  test('in one process', { timeout: TEST_MS }, context => prove(context, {}))

  test.skipIf(kafkaIsMissing !== undefined)(
    'on Kafka, in three processes that share the services',
    { timeout: TEST_MS },
    async context => {
      const kafka = await startKafka({ config: steady })
      context.onTestFinished(() => kafka.destroy())
      await prove(context, { bootstrap: kafka.bootstrap, processes: 3 })
    },
  )
})
