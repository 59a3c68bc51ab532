import { afterAll, beforeAll, describe } from 'vitest'
import { logConformance } from '../../conformance/log.ts'
import { type KafkaUnderTest, startKafka, steady } from '../../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../../support/kafka/shared.ts'
import { openConformanceLog } from './environment.ts'

describe.skipIf(kafkaIsMissing !== undefined)('on a broker', () => {
  let kafka: KafkaUnderTest
  beforeAll(async () => {
    kafka = await startKafka({ config: steady })
  }, START_MS_MAX)
  afterAll(() => kafka?.destroy())

  // Brokers clean by a clock of their own: `cleaning.test.ts` has what is seen of it.
  logConformance('Kafka', () => openConformanceLog(kafka.bootstrap), { cleansByClock: false })
})
