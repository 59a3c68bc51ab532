/** Plants bugs in a copy of the tree, one at a time, and sees that the tests named fail. */
import { execFileSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Campaign } from '../support/campaigns.ts'
import { root, runProcess } from '../support/processes.ts'

/** Breaks a rule as a hurried change would. */
export interface PlantedBug {
  readonly rule: string
  readonly file: string
  /** Text that stands there exactly once, and what stands there instead. */
  readonly find: string
  readonly replace: string
  /** A second place in the same file, where two guards hold one rule. */
  readonly and?: { readonly find: string; readonly replace: string }
  readonly tests: readonly string[]
}

async function copyTree(): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'millrace-planted-'))
  const listed = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const files = execFileSync('git', listed, { cwd: root, encoding: 'utf8' }).split('\0')
  for (const file of files.filter(name => /\.(ts|tsx|json)$/.test(name))) {
    await mkdir(dirname(join(copy, file)), { recursive: true })
    await cp(join(root, file), join(copy, file))
  }
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  return copy
}

function runTests(copy: string, tests: readonly string[]) {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const args = [vitest, 'run', '--root', copy, ...tests]
  return runProcess(process.execPath, args, { timeoutMs: 600_000, cwd: copy })
}

/** Undefined when the tests failed as they should. */
async function plant(copy: string, bug: PlantedBug): Promise<string | undefined> {
  const path = join(copy, bug.file)
  const source = await readFile(path, 'utf8')
  let planted = source
  for (const { find, replace } of bug.and === undefined ? [bug] : [bug, bug.and]) {
    if (planted.split(find).length !== 2) return `${bug.file} has no such place: ${find}`
    planted = planted.replace(find, () => replace)
  }
  await writeFile(path, planted)
  try {
    const run = await runTests(copy, bug.tests)
    if (run.code === 0) return 'its tests pass all the same'
    // A tree that does not even load proves nothing.
    return /Tests .*failed/.test(run.output) ? undefined : `no test ran: ${run.output.slice(-500)}`
  } finally {
    await writeFile(path, source)
  }
}

/** How many of the bugs the short form plants: one of so many. */
const ONE_OF_CI = 3

/** A campaign of all of them; `rounds` are the bugs planted, from the first on. */
export function plantedCampaign(name: string, all: readonly PlantedBug[]): Campaign {
  return {
    name,
    async run({ ci, log, rounds }) {
      const bugs = ci ? all.filter((_, i) => i % ONE_OF_CI === 0) : all.slice(0, rounds)
      const copy = await copyTree()
      const notes: string[] = []
      try {
        const tests = [...new Set(bugs.flatMap(bug => bug.tests))]
        const sound = await runTests(copy, tests)
        if (sound.code !== 0)
          return { passed: 0, failed: 1, notes: ['fails without a planted bug'] }
        for (const bug of bugs) {
          const survived = await plant(copy, bug)
          log(`${survived === undefined ? 'caught' : 'SURVIVED'}  ${bug.rule}`)
          if (survived !== undefined) notes.push(`${bug.rule}: ${survived}`)
        }
      } finally {
        await rm(copy, { recursive: true, force: true })
      }
      return { passed: bugs.length - notes.length, failed: notes.length, notes }
    },
  }
}
