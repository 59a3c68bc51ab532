/** The server's messages of the live protocol as schemas; `live.ts` has them as types. */
import Type from 'typebox'

const id = Type.String({ description: 'The subscription, as the client named it.' })
const view = Type.String()
const position = Type.String({ description: 'Opaque: pass it back as `resume`.' })
const row = Type.Record(Type.String(), Type.Unknown(), {
  description: 'A row of the view: its schema is that of the view.',
})
const key = Type.Array(Type.String(), { description: 'The fields that identify a row.' })
const partitions = Type.Optional(
  Type.Array(Type.Integer(), { description: 'Internal: the partitions on this instance.' }),
)
const closed = { additionalProperties: false }

const change = Type.Object(
  { op: Type.Union([Type.Literal('upsert'), Type.Literal('delete')]), row },
  closed,
)

/** By message type. */
export const serverMessages = {
  connection_ack: Type.Object(
    {
      type: Type.Literal('connection_ack'),
      payload: Type.Object({ version: Type.String(), heartbeatMs: Type.Number() }, closed),
    },
    closed,
  ),
  snapshot: Type.Object(
    { type: Type.Literal('snapshot'), id, view, position, key, rows: Type.Array(row) },
    closed,
  ),
  'up-to-date': Type.Object(
    { type: Type.Literal('up-to-date'), id, view, position, partitions },
    closed,
  ),
  delta: Type.Object(
    { type: Type.Literal('delta'), id, view, position, changes: Type.Array(change) },
    closed,
  ),
  'must-refetch': Type.Object({ type: Type.Literal('must-refetch'), id, view }, closed),
  error: Type.Object(
    {
      type: Type.Literal('error'),
      id,
      payload: Type.Object({ code: Type.String(), detail: Type.String() }, closed),
    },
    closed,
  ),
  complete: Type.Object({ type: Type.Literal('complete'), id }, closed),
  ping: Type.Object({ type: Type.Literal('ping'), payload: Type.Optional(Type.Unknown()) }, closed),
  pong: Type.Object({ type: Type.Literal('pong'), payload: Type.Optional(Type.Unknown()) }, closed),
} as const
