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
} from '../recording/port.ts'
import { type Answer, bodyOf, type Connection, remote } from './connection.ts'
import { effects } from './effects.ts'
import { eventLine } from './record-lines.ts'

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

  async prepare(topics: readonly RecordedTopic[]): Promise<void> {
    const { topics: there } = bodyOf(await this.#connection.get('/v1/topology'), this.name)
    const known = there as readonly { name: string; partitions: readonly unknown[] }[]
    for (const topic of topics) {
      const found = known.find(({ name }) => name === topic.name)
      if (found !== undefined) requirePartitions(topic, found.partitions.length)
    }
  }

  async send(records: readonly OutgoingRecords[]): Promise<Refusals> {
    const refusals: Record<string, number> = {}
    const refuse = (code: string) => {
      refusals[code] = (refusals[code] ?? 0) + 1
    }
    let lines: string[] = []
    for (const { topic, bytes } of records) {
      for (const columns of decodeBatches(bytes, { verify: false }).runs) {
        for (let i = 0; i < columns.length; i++) {
          const line = eventLine(topic, columns, i)
          if (line === undefined) refuse('RECORD_NOT_EVENT')
          else lines.push(line)
          if (lines.length < LINES_MAX) continue
          await this.#post(lines, refuse)
          lines = []
        }
      }
    }
    if (lines.length > 0) await this.#post(lines, refuse)
    return refusals
  }

  /** Rejects with INSTANCE_UNREACHABLE or INSTANCE_REFUSED. */
  async #post(lines: readonly string[], refuse: (code: string) => void): Promise<void> {
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
    const isRefusal = answer.status === 400 && answer.body.code === 'EVENTS_REJECTED'
    const body = isRefusal ? answer.body : bodyOf(answer, this.name)
    for (const { code } of body.rejected as readonly { code: string }[]) refuse(code)
  }
}
