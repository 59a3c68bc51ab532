/**
 * A replay to an instance: `POST /v1/events`, one request at a time, so that the order is kept.
 * Takes events alone, and puts them into partitions by their keys.
 */
import { decodeBatches } from '../log/record-columns.ts'
import {
  type OutgoingRecords,
  type RecordedTopic,
  type Refusals,
  type ReplayTarget,
  requirePartitions,
  SendCutShort,
} from '../recording/port.ts'
import { type Answer, bodyOf, type Connection, remote } from './connection.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { eventLine } from './record-lines.ts'
import { requireOwnSchema } from './recorded-schemas.ts'

const BYTES_MAX = 4 << 20
/** As many as an answer lists when all are refused. */
const LINES_MAX = 1000
const BUSY_PAUSE_MS = 100
const BUSY_TRIES_MAX = 600

export class HttpTarget implements ReplayTarget {
  readonly name: string
  readonly sendsMax = 1
  readonly bytesMax = BYTES_MAX
  readonly #connection: Connection

  constructor(url: string, apiKey: string) {
    this.name = url
    this.#connection = remote(url, apiKey)
  }

  /** Rejects with INSTANCE_FOREIGN, too. */
  async prepare(topics: readonly RecordedTopic[]): Promise<void> {
    const { topics: there } = bodyOf(await this.#connection.get('/v1/topology'), this.name)
    const isKnown = Array.isArray(there) && there.every(topic => Array.isArray(topic?.partitions))
    if (!isKnown) throw this.#foreign('/v1/topology lists no topics')
    const known = there as readonly { name: string; partitions: readonly unknown[] }[]
    for (const topic of topics) {
      const found = known.find(({ name }) => name === topic.name)
      if (found !== undefined) requirePartitions(topic, found.partitions.length)
    }
  }

  async send(records: readonly OutgoingRecords[]): Promise<Refusals> {
    const outcome = new Outcome()
    let lines: string[] = []
    const post = async () => {
      if (lines.length > 0) await this.#post(lines, outcome)
      lines = []
    }
    try {
      for (const { topic, partition, bytes } of records) {
        for (const columns of decodeBatches(bytes, { verify: false }).runs) {
          for (let i = 0; i < columns.length; i++) {
            const line = eventLine(topic, columns, i)
            if (line === undefined) {
              requireOwnSchema({ topic, partition }, columns, i)
              outcome.refuse('RECORD_NOT_EVENT')
            } else if (lines.push(line) === LINES_MAX) await post()
          }
        }
      }
      await post()
    } catch (error) {
      throw new SendCutShort(error, outcome)
    }
    return outcome.refusals
  }

  /** Rejects with INSTANCE_UNREACHABLE, INSTANCE_REFUSED or INSTANCE_FOREIGN. */
  async #post(lines: readonly string[], outcome: Outcome): Promise<void> {
    const payload = Buffer.from(`${lines.join('\n')}\n`)
    let answer: Answer
    for (let tries = 1; ; tries++) {
      answer = await this.#connection.post('/v1/events', 'application/x-ndjson', payload)
      const { status, body } = answer
      // Nothing of it was taken: the same again, and what is due meanwhile is late.
      const isBusy = status === 503 && !body.accepted && body.code === 'LOG_BUSY'
      if (!isBusy || tries === BUSY_TRIES_MAX) break
      await new Promise<void>(resolve => void effects.schedule(resolve, BUSY_PAUSE_MS))
    }
    const { status, body } = answer
    // An instance that could not go on says what it had done until then.
    const { accepted = 0, rejected = [] } = body as { accepted?: unknown; rejected?: unknown }
    if (Number.isInteger(accepted)) outcome.answered += accepted as number
    for (const row of Array.isArray(rejected) ? rejected : []) outcome.refuse(String(row?.code))
    if (status !== 400 || body.code !== 'EVENTS_REJECTED') bodyOf(answer, this.name)
    if (!('rejected' in body)) throw this.#foreign('/v1/events does not say what it refused')
  }

  #foreign(reason: string): Error {
    return cliError('INSTANCE_FOREIGN', { url: this.name, reason })
  }
}

/** What became of the records of a send so far. */
class Outcome {
  answered = 0
  readonly refusals: Record<string, number> = {}

  refuse(code: string): void {
    this.refusals[code] = (this.refusals[code] ?? 0) + 1
    this.answered++
  }
}
