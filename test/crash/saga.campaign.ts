/**
 * 50,000 orders (`--rounds` thousands) through the order services under random kill -9: in one
 * process on the embedded log, and each service a process of its own on Kafka; each as it happened,
 * and with records up to five minutes late, 5 % twice and 1 % poison, which must come to the same.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Campaign } from '../support/campaigns.ts'
import { startKafka, steady } from '../support/kafka/kafka.ts'
import type { WrittenEvent } from '../support/saga-run.ts'
import {
  assertSaidTheSame,
  killedSaga,
  type SagaKills,
  type SagaPlace,
  type SagaStory,
  undisturbed,
} from './saga-proof.ts'

const ORDERS = 50_000
const ORDERS_CI = 500
const KILLS = 30
const KILLS_CI = 4
const APART_MS = 1000
const PATIENCE_MS = 60_000
/** So that the story lasts about as long as the kills do. */
const FEED_MS = 2000
const FEED_MS_CI = 500
const PATIENCE_MS_CI = 15_000

export const campaign: Campaign = {
  name: 'saga',
  async run({ seed, rounds, ci, log }) {
    const orders = rounds === undefined ? (ci ? ORDERS_CI : ORDERS) : rounds * 1000
    const patienceMs = ci ? PATIENCE_MS_CI : PATIENCE_MS
    const feedMs = ci ? FEED_MS_CI : FEED_MS
    const kills = { kills: ci ? KILLS_CI : KILLS, apartMsMax: APART_MS, patienceMs, feedMs }
    const story = { orders, seed, disorder: false }
    const wanted = await undisturbed(story)
    log(`${orders} orders, ${wanted.length} events undisturbed`)
    const notes: string[] = []
    let passed = 0
    const note = (line: string) => {
      notes.push(line)
      log(line)
    }
    const legs = async (on: 'embedded' | 'Kafka') => {
      for (const disorder of [false, true]) {
        const what = `${on}, ${disorder ? 'in disorder' : 'in order'}`
        const run = (place: SagaPlace) => compared({ ...story, disorder }, place, { kills, wanted })
        try {
          note(`${what}: ${await (on === 'Kafka' ? onKafka(run, log) : inFolder(run))}`)
          passed++
        } catch (error) {
          note(`${what}: ${(error as Error).message}`)
        }
      }
    }
    // They wait more than they work.
    await Promise.all([legs('embedded'), legs('Kafka')])
    return { passed, failed: 4 - passed, notes }
  },
}

interface Comparison {
  readonly kills: SagaKills
  readonly wanted: readonly WrittenEvent[]
}

async function compared(
  story: SagaStory,
  place: SagaPlace,
  { kills, wanted }: Comparison,
): Promise<string> {
  const outcome = await killedSaga(story, place, kills)
  assertSaidTheSame(outcome.events, wanted)
  const { ended, netMinor } = outcome.books
  const fulfilled = [...ended.values()].filter(ending => ending === 'fulfilled').length
  const counts = `${ended.size} orders, ${fulfilled} fulfilled, ${netMinor} minor units`
  const { unreadAtKills } = outcome
  const amidst = unreadAtKills.filter(unread => unread > 0).length
  const killed = `${unreadAtKills.length} kills, ${amidst} of them amidst reading`
  return `${counts}, ${killed}, ${outcome.poison} poison: equal`
}

async function inFolder(run: (place: SagaPlace) => Promise<string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-saga-'))
  try {
    return await run({ folder })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** A broker of its own: the topics have the names that they have. */
async function onKafka(
  run: (place: SagaPlace) => Promise<string>,
  log: (line: string) => void,
): Promise<string> {
  const kafka = await startKafka({ config: steady, print: log })
  try {
    return await inFolder(place => run({ ...place, bootstrap: kafka.bootstrap }))
  } finally {
    await kafka.destroy()
  }
}
