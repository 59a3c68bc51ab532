/**
 * Debian packages that the checks need beyond Node: installed when the run is root on Debian,
 * otherwise named aloud.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { findChromium } from './chromium.ts'
import { findExecutable } from './executables.ts'
import { findJava, findMaven } from './java.ts'
import { runProcess } from './processes.ts'

/** rocksdb-native is linked against it, and slim images lack it. */
function hasLibatomic(): boolean {
  const folders = ['/usr/lib', '/usr/lib64', '/lib', '/lib64']
  if (process.platform !== 'linux') return true
  return folders.some(
    folder =>
      existsSync(folder) &&
      (existsSync(join(folder, 'libatomic.so.1')) ||
        readdirSync(folder, { withFileTypes: true }).some(
          entry => entry.isDirectory() && existsSync(join(folder, entry.name, 'libatomic.so.1')),
        )),
  )
}

interface Need {
  readonly debianPackage: string
  readonly reason: string
  readonly present: () => boolean
}

const needs: readonly Need[] = [
  { debianPackage: 'libatomic1', reason: 'the RocksDB binding', present: hasLibatomic },
  {
    debianPackage: 'chromium',
    reason: 'the dashboard tests',
    present: () => findChromium() !== undefined,
  },
  {
    debianPackage: 'default-jre-headless',
    reason: 'tests against Apache Kafka',
    present: () => findJava() !== undefined,
  },
  {
    debianPackage: 'maven',
    reason: 'fetching Apache Kafka for its tests',
    present: () => findMaven() !== undefined,
  },
]

/** What Kafka needs of them. */
export const kafkaPackages: readonly string[] = ['default-jre-headless', 'maven']

/**
 * Installs what is missing of these packages, of all unless given, or says what to install;
 * resolves with what is still missing.
 */
export async function ensureDebianPackages(
  print: (line: string) => void,
  wanted: readonly string[] = needs.map(need => need.debianPackage),
): Promise<Need[]> {
  const asked = needs.filter(need => wanted.includes(need.debianPackage))
  const missing = asked.filter(need => !need.present())
  if (missing.length === 0) return []
  const names = missing.map(need => need.debianPackage)
  const apt = findExecutable('apt-get')
  if (process.getuid?.() === 0 && apt !== undefined) {
    print(`installing ${names.join(' ')} with apt-get`)
    const env = { DEBIAN_FRONTEND: 'noninteractive' }
    await runProcess(apt, ['update', '-q'], { timeoutMs: 300_000, env })
    const args = ['install', '-y', '-q', '--no-install-recommends', ...names]
    const { code, output } = await runProcess(apt, args, { timeoutMs: 1_200_000, env })
    if (code !== 0) print(output.split('\n').slice(-20).join('\n'))
  }
  const still = asked.filter(need => !need.present())
  for (const need of still) {
    print(
      `MISSING ${need.debianPackage}: ${need.reason} need it; install it by your system's means`,
    )
  }
  return still
}
