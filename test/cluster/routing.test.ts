/** Any instance answers for whole views, or says that it cannot; while tasks move and die. */
import { expect, test } from 'vitest'
import { type FollowCounts, Follower } from './followers.ts'
import { Readers } from './readers.ts'
import { PARTITIONS, readings, readingsTopology, views } from './readings.ts'
import { play } from './story.ts'

async function playReaders(seed: number) {
  const inputs = readings(seed, 400)
  let readers: Readers | undefined
  const cluster = await play({
    seed,
    topology: readingsTopology,
    partitions: PARTITIONS,
    inputs,
    look: async playing => {
      readers ??= new Readers(playing, inputs, seed)
      readers.ask()
    },
  })
  await readers!.finish()
  await readers!.checkRest()
  await cluster.close()
  return readers!.counts
}

test('an answer has every row that its position covers, once, or is refused', async () => {
  const total = { answered: 0, refused: 0, lost: 0, merged: 0, walked: 0 }
  for (let seed = 0; seed < 24; seed++) {
    const counts = await playReaders(seed)
    for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += counts[name]
  }
  expect(total.merged).toBeGreaterThan(100)
}, 240_000)

async function playFollowers(seed: number) {
  const inputs = readings(seed, 400)
  let followers: Follower[] | undefined
  const cluster = await play({
    seed,
    topology: readingsTopology,
    partitions: PARTITIONS,
    inputs,
    look: async playing => {
      followers ??= views.flatMap((view, i) =>
        [0, 1].map(
          j => new Follower(playing, { records: inputs, view, seed: seed * 10 + i + j * 5 }),
        ),
      )
      for (const follower of followers) follower.look()
    },
  })
  for (const follower of followers!) await follower.checkRest()
  await cluster.close()
  return followers!.map(({ counts }) => counts)
}

test('a follower holds every row that its position covers, and none goes back', async () => {
  const total = { snapshots: 0, deltas: 0, refetches: 0, resumed: 0, refusals: 0 }
  for (let seed = 0; seed < 20; seed++) {
    for (const counts of await playFollowers(seed)) {
      for (const name of Object.keys(total) as (keyof FollowCounts)[]) total[name] += counts[name]
    }
  }
  expect(total.deltas).toBeGreaterThan(500)
}, 240_000)
