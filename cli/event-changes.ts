/**
 * What an event of a recording becomes at another time, or in a later pass: its own time field and
 * `ce_time` move with the timestamp, and from the second pass on the event, its order, payment and
 * notification are new ones: their ids, in the value, the key and the headers, end with `~1`,
 * `~2`, … Customers and products stay who they are. Records that are no events keep their bytes.
 */
import type { ContractError } from '../contracts/errors.ts'
import { decodeEvent, encodeEvent } from '../contracts/event-codec.ts'
import type { BusinessEvent } from '../contracts/events.ts'
import { eventKeyOf, timeFields } from '../contracts/topics.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'
import type { ChangeRecord } from '../recording/outgoing.ts'
import { cliError } from './errors.ts'
import { timeText } from './quantities.ts'
import { requireOwnSchema } from './recorded-schemas.ts'

const idFields = ['orderId', 'paymentId', 'notificationId'] as const
const idHeaders = new Set(['ce_id', 'correlationid', 'causationid'])

/** Throws RECORDED_SCHEMA where the schema cannot be the event's, and RECORDED_EVENT. */
export const changeEvent: ChangeRecord = (columns, i, { shiftMs, pass }, place) => {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
  if (keyStart[i]! < 0 || valueStart[i]! < 0) return undefined
  const headers = readHeaders(columns, i)
  requireOwnSchema(place, columns, i, headers)
  const suffix = pass === 0 ? '' : `~${pass}`
  let event: BusinessEvent
  try {
    event = decodeEvent(bytes, valueStart[i]!, valueEnd[i]!)
  } catch {
    return undefined
  }
  const timeField = timeFields[event.type]
  const changed = { ...event } as Record<string, unknown>
  const timeMs = (changed[timeField] as number) + shiftMs
  changed[timeField] = timeMs
  for (const field of idFields) if (field in changed) changed[field] = `${changed[field]}${suffix}`
  const key = Buffer.from(bytes.subarray(keyStart[i]!, keyEnd[i]!))
  const isOwnKey = key.toString() === eventKeyOf(event)
  const changedEvent = changed as unknown as BusinessEvent
  let value: Buffer
  try {
    value = encodeEvent(changedEvent)
  } catch (error) {
    const { reason } = error as ContractError
    const details = { ...place, offset: columns.offsets[i], reason }
    throw cliError('RECORDED_EVENT', details, { cause: error })
  }
  return {
    key: isOwnKey ? Buffer.from(eventKeyOf(changedEvent)) : key,
    value,
    headers: headers.map(header => changedHeader(header, timeMs, suffix)),
  }
}

function changedHeader([name, value]: Header, timeMs: number, suffix: string): Header {
  if (value === null) return [name, value]
  if (name === 'ce_time') return [name, Buffer.from(timeText(timeMs))]
  return [name, idHeaders.has(name) ? Buffer.from(`${value}${suffix}`) : value]
}
