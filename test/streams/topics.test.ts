import { expect, test } from 'vitest'
import { defaultSettings } from '../../streams/environment.ts'
import { Topology, text, textKey } from '../../streams/index.ts'
import { prepareTopics } from '../../streams/topics.ts'
import { openOnMemory } from '../log/embedded/environment.ts'

test('instances that start at the same moment on an empty log create its topics once', async () => {
  const topology = new Topology('copies')
  const lines = { key: textKey(), value: text() }
  topology.stream('in', lines).to('out', lines)
  const { log, dispose } = await openOnMemory()
  const options = { log, topology, settings: defaultSettings, internal: false }
  const found = await Promise.all([prepareTopics(options), prepareTopics(options)])
  expect(found[0]).toEqual(found[1])
  expect((await log.listTopics()).map(({ name }) => name)).toEqual([
    'copies-dead-letter-states',
    'copies-dead-letters',
    'in',
    'out',
  ])
  await dispose()
})
