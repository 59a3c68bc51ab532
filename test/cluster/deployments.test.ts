/**
 * Deployments of a changed topology over several instances: parts of the shop are added at random
 * moments, and instances move, stop, die and lose their disks while these are built.
 */
import { expect, test } from 'vitest'
import { playDeployments, positionsTopics } from './deployments.ts'

test('parts that are added are built while instances come and go', async () => {
  let branches = 0
  for (let seed = 1; seed < 5; seed++) {
    const cluster = await playDeployments(seed, ['start', 'stop', 'shuffle'])
    expect(cluster.counts.moves).toBeGreaterThan(10)
    branches += positionsTopics(cluster)
  }
  expect(branches).toBeGreaterThan(4)
})

test('parts that are added are built while instances die, lose disks, freeze and lose their group', async () => {
  let kills = 0
  let branches = 0
  for (let seed = 30; seed < 36; seed++) {
    const cluster = await playDeployments(seed)
    kills += cluster.counts.kills
    branches += positionsTopics(cluster)
  }
  expect(kills).toBeGreaterThan(8)
  expect(branches).toBeGreaterThan(6)
})
