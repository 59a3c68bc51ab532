/** The part of the OpenAPI document that is about dead letters. */
import { sideReasons } from '../streams/letters.ts'
import {
  answers,
  application,
  cursor,
  type Json,
  limit,
  operation,
  parameter,
  position,
  time,
  timeout,
  tokenHeader,
} from './openapi-parts.ts'

const text = { type: ['string', 'null'] }
const integer = { type: ['integer', 'null'] }

export const deadLetterSchemas: Readonly<Record<string, object>> = {
  DeadLetter: {
    type: 'object',
    required: ['id', 'application', 'state', 'reason', 'step', 'detail', 'attempts', 'timestamp'],
    properties: {
      id: { type: 'string', description: 'The application and a number.' },
      application: { type: 'string' },
      state: { enum: ['open', 'replayed', 'discarded'] },
      reason: { ...text, description: `One of ${sideReasons.join(', ')}.` },
      topic: { ...text, description: 'Where the record came from; null where none was at fault.' },
      partition: integer,
      offset: integer,
      step: { ...text, description: 'The step that put it aside.' },
      code: { ...text, description: 'Code or name of the error.' },
      detail: { type: 'string' },
      stack: { ...text, description: 'The same for errors from the same place in the code.' },
      attempts: { type: 'integer', minimum: 1 },
      at: { ...integer, description: 'When it was put aside, epoch ms.' },
      content: { enum: ['record', 'batch', 'derived', 'none'] },
      timestamp: { type: 'integer', description: 'Event time of the record, epoch ms.' },
      key: text,
      keyBase64: { type: 'string', description: 'Of a key that is no text.' },
      value: { description: 'The event, or null; absent where the value is neither.' },
      valueBytes: { type: 'integer' },
      valueBase64: { type: 'string', description: 'In listings the first 16 KiB.' },
      valueText: { type: 'string', description: 'Of a single letter, where it is text.' },
      valueSha256: { type: 'string', description: 'Of a value over 1 MiB, which is not kept.' },
      headers: { type: 'array', items: { type: 'object' } },
      replayable: { type: 'boolean', description: 'Of a single letter.' },
      refusal: { type: 'string', description: 'Why it cannot be replayed.' },
      settledAt: { type: 'integer', description: 'When it was replayed or discarded, epoch ms.' },
      settledBy: { ...text, description: 'By whose credentials.' },
    },
  },
}

const letter = { $ref: '#/components/schemas/DeadLetter' }
const next = { type: ['string', 'null'], description: 'Cursor of the next page, null on the last.' }

const filters: readonly Json[] = [
  application,
  parameter('state', 'State of the letters; `all` for any.', {
    enum: ['open', 'replayed', 'discarded', 'all'],
    default: 'open',
  }),
  parameter('reason', 'Why they were put aside.', { enum: sideReasons }),
  parameter('topic', 'Whose records they were.', { type: 'string' }),
  parameter('step', 'The step that put them aside.', { type: 'string' }),
  parameter('from', 'Put aside from then on, epoch ms or ISO 8601.', time),
  parameter('to', 'Put aside before, epoch ms or ISO 8601.', time),
]
const id: Json = { name: 'id', in: 'path', required: true, schema: { type: 'string' } }
const dryRun = parameter('dryRun', 'Says only what would be done.', { type: 'boolean' })

export function deadLetterPaths(): Record<string, Json> {
  const page = object({ deadLetters: { type: 'array', items: letter }, next, position })
  const one = object({ deadLetter: letter })
  return {
    '/v1/dead-letters': {
      get: operation('deadLetters', 'Records that were put aside, newest first.', {
        tags: ['dead letters'],
        parameters: [...filters, limit, cursor, timeout, tokenHeader],
        responses: answers(page, 'A page of dead letters.', [400, 401, 403, 503]),
      }),
    },
    '/v1/dead-letters/{id}': {
      get: operation('deadLetter', 'One dead letter with all that there is of its record.', {
        tags: ['dead letters'],
        parameters: [id],
        responses: answers(one, 'The dead letter.', [400, 401, 403, 404, 503]),
      }),
    },
    ...actionPaths('replay', 'Puts records back into their topics, for the step that failed.'),
    ...actionPaths('discard', 'Marks dead letters as settled; they stay in their topic.'),
  }
}

function actionPaths(action: string, summary: string): Record<string, Json> {
  const outcome = {
    id: { type: 'string' },
    state: { enum: ['open', 'replayed', 'discarded'] },
    changed: { type: 'boolean', description: 'False when it was so already.' },
  }
  const dry = { type: 'boolean' }
  const result = {
    type: 'object',
    required: ['id'],
    properties: { ...outcome, code: { type: 'string' }, detail: { type: 'string' } },
  }
  const results = { type: 'array', items: result, description: 'Refused ones have a code.' }
  const all = parameter('all', 'All open ones: needed without a filter.', { type: 'boolean' })
  return {
    [`/v1/dead-letters/${action}`]: {
      post: operation(`${action}DeadLetters`, `${summary} All that match, oldest first.`, {
        tags: ['dead letters'],
        parameters: [...filters, all, dryRun, limit, cursor],
        responses: answers(
          object({ results, dryRun: dry, next, position }),
          'What became of each.',
          [400, 401, 403, 503],
        ),
      }),
    },
    [`/v1/dead-letters/{id}/${action}`]: {
      post: operation(`${action}DeadLetter`, `${summary} Once, however often it is asked.`, {
        tags: ['dead letters'],
        parameters: [id, dryRun],
        responses: answers(
          object({ ...outcome, dryRun: dry, position }),
          'What became of it.',
          [400, 401, 403, 404, 409, 503],
        ),
      }),
    },
  }
}

function object(properties: Json): Json {
  return { type: 'object', required: Object.keys(properties), properties }
}
