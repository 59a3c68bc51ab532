/**
 * What wrote the state in a database, so that another topology does not misread it. Version 1, as
 * JSON under 'M' "" 00 0000 "fingerprint":
 *
 *     { "version": 1, "stores": { <name>: { kind, format, codec, partitions, segmentMs? } } }
 *
 * Stores that the topology no longer has stay in the record: their rows are still there.
 */
import type { Database } from '../log/database.ts'
import { stateError } from './errors.ts'
import { metadataKey } from './keys.ts'

const VERSION = 1
const KEY = metadataKey('', 0, 'fingerprint')

export interface StoreIdentity {
  readonly kind: 'rows' | 'blocks'
  /** Version of the store's own bytes. */
  readonly format: number
  /** Names of the key's and value's encodings. */
  readonly codec: string
  readonly partitions: number
  /** Of blocks: the length of their time segments. */
  readonly segmentMs?: number
}

export type Fingerprint = ReadonlyMap<string, StoreIdentity>

const FIELDS = ['kind', 'format', 'codec', 'partitions', 'segmentMs'] as const

/** Why each store cannot be opened as `now`, by its name; empty when all can. */
export function fingerprintChanges(stored: Fingerprint, now: Fingerprint): Map<string, string> {
  const changes = new Map<string, string>()
  for (const [name, identity] of now) {
    const before = stored.get(name)
    if (before === undefined) continue
    const reasons = FIELDS.filter(field => before[field] !== identity[field]).map(
      field =>
        `its ${field} was ${before[field] ?? 'none'} and is now ${identity[field] ?? 'none'}`,
    )
    if (reasons.length > 0) changes.set(name, reasons.join(', '))
  }
  return changes
}

/** The record is read, changed and written: one at a time for a database. */
const turns = new WeakMap<Database, Promise<unknown>>()

function inTurn<T>(database: Database, change: () => Promise<T>): Promise<T> {
  const turn = (turns.get(database) ?? Promise.resolve()).then(change)
  turns.set(
    database,
    turn.catch(() => {}),
  )
  return turn
}

/**
 * Refuses state that other stores of these names wrote (`STATE_FOREIGN`, a reason a store), and
 * otherwise records the stores. Call it before any store is opened.
 */
export function verifyFingerprint(database: Database, now: Fingerprint): Promise<void> {
  return inTurn(database, () => verify(database, now))
}

async function verify(database: Database, now: Fingerprint): Promise<void> {
  const stored = await readFingerprint(database)
  const changes = fingerprintChanges(stored, now)
  if (changes.size > 0) {
    const reason = [...changes].map(([name, why]) => `store ${name}: ${why}`).join('; ')
    throw stateError('STATE_FOREIGN', { reason, stores: [...changes.keys()] })
  }
  const batch = database.batch()
  batch.put(KEY, encodeFingerprint(new Map([...stored, ...now])))
  await batch.commit()
}

/** Forgets stores by their names: their rows were deleted. */
export async function forgetFingerprint(
  database: Database,
  isGone: (name: string) => boolean,
): Promise<void> {
  const stored = await readFingerprint(database)
  const batch = database.batch()
  batch.put(KEY, encodeFingerprint(new Map([...stored].filter(([name]) => !isGone(name)))))
  await batch.commit()
}

/** Empty when nothing was recorded yet. */
export async function readFingerprint(database: Database): Promise<Fingerprint> {
  const [bytes] = await database.getMany([KEY])
  return bytes ? decodeFingerprint(bytes) : new Map()
}

export function encodeFingerprint(fingerprint: Fingerprint): Buffer {
  const names = [...fingerprint.keys()].sort()
  const stores = Object.fromEntries(
    names.map(name => {
      const identity = fingerprint.get(name)!
      return [name, Object.fromEntries(FIELDS.map(field => [field, identity[field]]))]
    }),
  )
  return Buffer.from(JSON.stringify({ version: VERSION, stores }))
}

export function decodeFingerprint(bytes: Buffer): Fingerprint {
  const { version, stores } = JSON.parse(bytes.utf8Slice()) as {
    version: number
    stores: Record<string, StoreIdentity>
  }
  if (version !== VERSION) {
    const reason = `its fingerprint has version ${version}, and this release knows ${VERSION}`
    throw stateError('STATE_FOREIGN', { reason, stores: [] })
  }
  return new Map(Object.entries(stores))
}
