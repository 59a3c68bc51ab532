/**
 * Members against a model of the coordinator, in simulated time, from seeds. A failing seed is in
 * the test's name: the run repeats exactly.
 */
import { expect, test } from 'vitest'
import { World } from '../../support/streams-group/world.ts'

const seeds = Array.from({ length: 25 }, (_, i) => i + 1)

test.each(seeds)('without faults no task is ever held twice, seed %i', async seed => {
  const world = new World({ seed, standbys: seed % 2 })
  world.start('a')
  await world.run(2_000)
  for (let i = 0; i < 8; i++) {
    const choice = world.time.random()
    if (choice < 0.4 && world.instances.length < 4) world.start(`m${i}`)
    else if (choice < 0.6) world.coordinator.shuffle()
    else if (choice < 0.8 && world.instances.length > 1) await leaveOne(world)
    await world.run(world.time.between(0, 20_000))
  }
  await world.run(30_000)
  expect(world.lostUpdates).toEqual([])
  expect(world.shared).toEqual([])
  expect(world.disorder).toBe('')
})

async function leaveOne(world: World): Promise<void> {
  const instance = world.instances[Math.floor(world.time.random() * world.instances.length)]!
  const left = world.leave(instance)
  await world.run(1_000)
  await left
}

test.each(seeds)('under loss, kills and stops no update is lost, seed %i', async seed => {
  const heedsAlive = seed % 2 === 0
  const world = new World({ seed, standbys: seed % 3 === 0 ? 1 : 0, lossShare: 0.25, heedsAlive })
  let started = 0
  const begin = () => world.start(`m${started++}`)
  begin()
  begin()
  for (let i = 0; i < 40; i++) {
    const one = world.instances[Math.floor(world.time.random() * world.instances.length)]
    const choice = world.time.random()
    if (world.instances.length < 2 || (choice < 0.15 && world.instances.length < 5)) begin()
    else if (choice < 0.25) {
      world.kill(one!)
      if (world.time.chance(0.7)) world.start(one!.member.memberId)
    } else if (choice < 0.4) one!.process.stop(world.time.between(1_000, 70_000))
    else if (choice < 0.7) world.coordinator.shuffle()
    await world.run(world.time.between(0, 15_000))
  }
  world.lossShare = 0
  await world.run(150_000)
  expect(world.lostUpdates).toEqual([])
  expect(world.disorder).toBe('')
  const before = [...world.coordinator.versions]
  await world.run(10_000)
  const idle = world.coordinator.versions.filter((version, i) => version === before[i])
  expect(idle).toEqual([])
})
