/** `millrace doctor`: reads and checks everything in a data folder, and keeps what is readable. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { openRocksDB, type RocksDBDatabase } from '../state/rocksdb.ts'
import { MillraceError } from '../streams/errors.ts'
import type { Topology } from '../streams/topology.ts'
import { allApplications } from './applications.ts'
import { type Command, type Invocation, jsonSwitch, type Terminal } from './command.ts'
import { bootId } from './effects.ts'
import { cliError } from './errors.ts'
import { type Examination, examine, isSound } from './examination.ts'
import { findInstance } from './instance-file.ts'
import { ProgressLine } from './progress-line.ts'
import { finishSalvage, salvage } from './salvage.ts'
import type { SalvagePlan } from './salvage-plan.ts'
import { readSettings, type Settings } from './settings.ts'
import { textTable } from './text-table.ts'

const doctorSettings = ['dataDir', 'viewRetention'] as const
type DoctorSettings = Pick<Settings, (typeof doctorSettings)[number]>

export const doctorCommand: Command = {
  name: 'doctor',
  operands: '',
  operandsMin: 0,
  operandsMax: 0,
  summary: 'Reads everything in a data folder and says what is damaged; exits with 1 when any is.',
  settings: doctorSettings,
  switches: [
    { name: 'salvage', meaning: 'keeps what is readable, and sets the damaged database aside' },
    { name: 'yes', meaning: 'salvages without asking' },
    jsonSwitch,
  ],
  examples: [
    'millrace doctor',
    'millrace doctor --data-dir ./data --json',
    'millrace doctor --salvage',
  ],
  async run(invocation) {
    const { flags, terminal } = invocation
    const settings = readSettings(doctorSettings, flags, terminal.environment)
    if (flags.yes === true && flags.salvage !== true) {
      throw cliError('USAGE', { reason: '--yes belongs to --salvage.' })
    }
    await checkFree(settings.dataDir)
    const topologies = allApplications(settings)
    const progress = new ProgressLine(terminal)
    try {
      return await diagnose({ invocation, settings, topologies, progress })
    } finally {
      progress.end()
    }
  },
}

/** Says whether there is a database, and that nobody else has it open. */
async function checkFree(dataDir: string): Promise<void> {
  await finishSalvage(dataDir)
  const path = join(dataDir, 'db')
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) throw cliError('DATA_MISSING', { dataDir })
  const instance = await findInstance(dataDir)
  if (instance !== undefined) {
    throw cliError('DATA_IN_USE', { dataDir, pid: instance.pid, url: instance.url })
  }
}

interface Doctoring {
  readonly invocation: Invocation
  readonly settings: DoctorSettings
  readonly topologies: readonly Topology[]
  readonly progress: ProgressLine
}

async function diagnose(doctoring: Doctoring): Promise<number> {
  const { invocation, settings, topologies, progress } = doctoring
  const { flags, terminal } = invocation
  const path = join(settings.dataDir, 'db')
  const opened = await open(path)
  if (opened.database === undefined) {
    if (flags.salvage === true) return salvageNow(doctoring, opened.problem)
    throw opened.error
  }
  let examination: Examination
  try {
    const onProgress = (text: string) => progress.show(() => text)
    examination = await examine(opened.database, { topologies, onProgress })
  } finally {
    await opened.database.close()
  }
  const { problem } = opened
  const sound = problem === undefined && isSound(examination)
  progress.end()
  if (flags.json === true && flags.salvage !== true) {
    terminal.out(`${JSON.stringify({ sound, problem: problem ?? null, ...report(examination) })}\n`)
  } else terminal.out(describe(examination, problem))
  if (flags.salvage !== true || sound) return sound ? 0 : 1
  return salvageNow(doctoring, problem)
}

interface Opened {
  readonly database: RocksDBDatabase | undefined
  /** What is wrong with the database as a whole. */
  readonly problem: string | undefined
  readonly error?: unknown
}

/** Opens as a start does; what a start would refuse is read as far as it goes, changing nothing. */
async function open(path: string): Promise<Opened> {
  try {
    const owner = { pid: process.pid, bootId: bootId() }
    return { database: await openRocksDB(path, { owner }), problem: undefined }
  } catch (error) {
    if (!(error instanceof MillraceError) || error.code === 'DATABASE_LOCKED') throw error
    const problem = String(error.details.reason)
    const options = { readOnly: true, salvage: true }
    const database = await openRocksDB(path, options).catch(() => undefined)
    return { database, problem, error }
  }
}

async function salvageNow(
  { invocation, settings, topologies, progress }: Doctoring,
  problem: string | undefined,
): Promise<number> {
  const { flags, terminal } = invocation
  const result = await salvage({
    dataDir: settings.dataDir,
    topologies,
    onProgress: text => progress.show(() => text),
    confirm: async (_, plan) => {
      progress.end()
      terminal.out(describePlan(plan, problem))
      return flags.yes === true || confirmed(terminal)
    },
  })
  progress.end()
  if (result === undefined) {
    terminal.out('Nothing was changed.\n')
    return 1
  }
  for (const { path, records } of result.cutFiles) {
    terminal.out(`${records} readable records of what was cut are in ${path}\n`)
  }
  terminal.out(
    `Salvaged. The damaged database is in ${result.damaged}; delete it when nothing is missed.\n`,
  )
  return 0
}

async function confirmed(terminal: Terminal): Promise<boolean> {
  if (!terminal.isInteractive || !process.stdin.isTTY) {
    throw cliError('USAGE', { reason: 'Say --yes to salvage without being asked.' })
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await prompt.question('Salvage so? [y/N] ')
  prompt.close()
  return /^y(es)?$/i.test(answer.trim())
}

function report({ log, stores, problems }: Examination) {
  const partitions = log.partitions.map(({ topic, partition, records, problems: own, ...rest }) => {
    const { startOffset, endOffset, soundTo } = rest
    return { topic, partition, records, startOffset, endOffset, soundTo, problems: own }
  })
  return { partitions, stores, problems }
}

function describe(examination: Examination, problem: string | undefined): string {
  const { log, stores, problems } = examination
  const partitions = log.partitions.map(({ topic, partition, records, ...rest }) => ({
    topic,
    partition,
    records,
    first: rest.startOffset,
    last: rest.endOffset - 1,
    problems: rest.problems.length,
  }))
  const places = stores.map(({ store, partition, rows, problems: own }) => {
    return { store, partition, rows, problems: own.length }
  })
  const lines = [
    ...(problem === undefined ? [] : [`the database: ${problem}`]),
    ...problems,
    ...log.partitions.flatMap(({ topic, partition, problems: own }) =>
      own.map(text => `${topic}-${partition}: ${text}`),
    ),
    ...stores.flatMap(({ store, partition, problems: own }) =>
      own.map(text => `${store}/${partition}: ${text}`),
    ),
  ]
  const verdict =
    lines.length === 0
      ? 'Nothing is damaged.\n'
      : `Damaged:\n${lines.map(line => `  ${line}\n`).join('')}`
  return `${textTable(partitions)}\n${textTable(places)}\n${verdict}`
}

function describePlan({ cuts, resets, restored }: SalvagePlan, problem?: string): string {
  const lines = [
    ...(problem === undefined ? [] : ['keeps the readable prefix of the last writes']),
    ...cuts.map(({ report: { topic, partition, endOffset }, from }) => {
      return `cuts ${topic}-${partition} at offset ${from} (it ended at ${endOffset})`
    }),
    ...[...resets].map(([application, why]) => {
      return `begins ${application} anew at the start of its input: ${why}`
    }),
    ...restored.map(({ store, partition }) => `restores ${store}/${partition} from its changelog`),
  ]
  return `Salvaging\n${lines.map(line => `  ${line}\n`).join('')}`
}
