/** Topics made by several at once. */
import { expect, test } from 'vitest'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { openLog } from './environment.ts'
import { codeOf } from './producing.ts'

describeOnKafka('topics of Kafka', kafka => {
  test('a topic that is said to exist is there for whoever asks next', async () => {
    const logs = await Promise.all([1, 2].map(() => openLog(kafka.bootstrap)))
    try {
      const seen: string[] = []
      for (let i = 0; i < 60; i++) {
        const name = ownName('raced')
        const both = logs.map(async log => {
          const code = await codeOf(log.createTopic(name, 2))
          return `${code} ${(await log.describeTopic(name))?.partitions}`
        })
        seen.push(...(await Promise.all(both)))
      }
      expect([...new Set(seen)].sort()).toEqual(['TOPIC_EXISTS 2', 'fulfilled 2'])
    } finally {
      for (const log of logs) await log.close()
    }
  })
})
