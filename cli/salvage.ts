/**
 * `millrace doctor --salvage`: a new database with what is readable takes the place of the damaged
 * one, which is set aside whole.
 *
 *     db ──links──▶ db-work ──readable──▶ db-salvaged
 *     db ─▶ db-damaged-TIME, then db-salvaged ─▶ db
 *
 * Until the last line `db` is as it was found. A process that dies between its two renames leaves
 * no `db` but a whole `db-salvaged`: the next to open the folder finishes (`finishSalvage`).
 */
import { copyFile, link, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { openRocksDB, type RocksDBDatabase } from '../state/rocksdb.ts'
import type { Topology } from '../streams/topology.ts'
import { writeCutFile } from './cut-file.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { type Examination, examine } from './examination.ts'
import { copySalvaged } from './salvage-copy.ts'
import { openDamaged } from './salvage-open.ts'
import { planSalvage, type SalvagePlan } from './salvage-plan.ts'

const paths = (dataDir: string) => ({
  db: join(dataDir, 'db'),
  work: join(dataDir, 'db-work'),
  salvaged: join(dataDir, 'db-salvaged'),
})

export interface SalvageOptions {
  readonly dataDir: string
  readonly topologies: readonly Topology[]
  readonly onProgress: (text: string) => void
  /** Asked once it is known what is kept; false leaves everything as it is. */
  readonly confirm: (examination: Examination, plan: SalvagePlan) => Promise<boolean>
}

export interface SalvageResult {
  readonly plan: SalvagePlan
  /** Where the damaged database is now. */
  readonly damaged: string
  /** What could be read of what was cut. */
  readonly cutFiles: readonly { readonly path: string; readonly records: number }[]
}

/** Undefined when it was not confirmed. Throws SALVAGE_IMPOSSIBLE. */
export async function salvage(options: SalvageOptions): Promise<SalvageResult | undefined> {
  const { dataDir, topologies, onProgress, confirm } = options
  const { db, work, salvaged } = paths(dataDir)
  await rm(work, { recursive: true, force: true })
  await rm(salvaged, { recursive: true, force: true })
  onProgress('linking the files of the database')
  await linkDirectory(db, work)
  try {
    const from = await openDamaged(work)
    try {
      const examination = await examine(from, { topologies, onProgress })
      if (!examination.log.isThere) throw cliError('SALVAGE_NEEDLESS', { dataDir })
      const plan = planSalvage(examination, topologies)
      if (!(await confirm(examination, plan))) return undefined
      return await replace(options, from, { examination, plan })
    } finally {
      await from.close()
    }
  } finally {
    await rm(work, { recursive: true, force: true })
    await rm(salvaged, { recursive: true, force: true })
  }
}

/** Copies the readable part and puts it in place. */
async function replace(
  { dataDir, onProgress }: SalvageOptions,
  from: RocksDBDatabase,
  { examination, plan }: { examination: Examination; plan: SalvagePlan },
): Promise<SalvageResult> {
  const { db, salvaged } = paths(dataDir)
  const at = new Date(effects.clock()).toISOString().replace(/[:.]/g, '-')
  const to = await openRocksDB(salvaged)
  try {
    const incarnation = effects.randomBytes(8).toString('hex')
    await copySalvaged({ from, to, examination, plan, incarnation, onProgress })
    await to.sync()
  } finally {
    await to.close()
  }
  const cutFiles = await writeCutFiles(dataDir, at, { from, plan })
  const damaged = join(dataDir, `db-damaged-${at}`)
  await rename(db, damaged)
  await rename(salvaged, db)
  return { plan, damaged, cutFiles }
}

async function writeCutFiles(
  dataDir: string,
  at: string,
  { from, plan }: { from: RocksDBDatabase; plan: SalvagePlan },
) {
  const cuts = plan.cuts.filter(({ report }) => !report.topic.endsWith('-changelog'))
  if (cuts.length === 0) return []
  const folder = join(dataDir, `cut-${at}`)
  await mkdir(folder)
  const files = []
  for (const cut of cuts) files.push(await writeCutFile(from, folder, cut))
  return files
}

/** A copy that costs no space where it can be: RocksDB never changes its tables and blobs. */
async function linkDirectory(from: string, to: string): Promise<void> {
  await mkdir(to)
  for (const name of await readdir(from)) {
    const source = join(from, name)
    if (!(await stat(source)).isFile() || name === 'LOCK' || name === 'OWNER') continue
    const target = join(to, name)
    const linked = /\.(sst|blob)$/.test(name) && (await tryLink(source, target))
    if (!linked) await copyFile(source, target)
  }
}

function tryLink(source: string, target: string): Promise<boolean> {
  return link(source, target).then(
    () => true,
    () => false,
  )
}

/** Puts a salvaged database in place whose process died before it could. */
export async function finishSalvage(dataDir: string): Promise<void> {
  const { db, salvaged } = paths(dataDir)
  const exists = (path: string) =>
    stat(path).then(
      () => true,
      () => false,
    )
  if (!(await exists(db)) && (await exists(salvaged))) await rename(salvaged, db)
}
