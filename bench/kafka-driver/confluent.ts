/**
 * `npm run bench:confluent`: reading by @confluentinc/kafka-javascript beside Millrace's driver,
 * where it can be installed. It is no dependency: this installs it into a temporary folder, and
 * says what is missing when that does not work; then there is nothing to measure, which is no
 * failure.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runProcess } from '../../test/support/processes.ts'
import { contain } from '../contained.ts'
import { peerVersions } from '../peer.ts'
import { report } from '../report.ts'
import { consumes, figures, inTurn, ratioOf, withInput } from './kafka-driver.ts'

const VERSION = '1.10.1'
const NAME = '@confluentinc/kafka-javascript'
/** Without a prebuilt binary, librdkafka and what it needs are compiled. */
const INSTALL_MS_MAX = 20 * 60_000
const LOAD_MS_MAX = 30_000
const REASONS_MAX = 8

const say = (text: string) => process.stderr.write(`confluent: ${text}\n`)

/** Why it cannot be had here, in lines; empty when it can be loaded from the folder. */
async function install(folder: string): Promise<readonly string[]> {
  writeFileSync(join(folder, 'package.json'), '{"private":true}')
  const args = ['install', '--no-audit', '--no-fund', `${NAME}@${VERSION}`]
  const installed = await runProcess('npm', args, { cwd: folder, timeoutMs: INSTALL_MS_MAX })
  if (installed.code !== 0) return reasonsIn(installed.output)
  const script = ['-e', `require('${NAME}')`]
  const loaded = await runProcess(process.execPath, script, {
    cwd: folder,
    timeoutMs: LOAD_MS_MAX,
  })
  return loaded.code === 0 ? [] : reasonsIn(loaded.output)
}

/** The lines of a long build that say what failed; its last ones where none does. */
function reasonsIn(output: string): readonly string[] {
  const lines = output
    .split('\n')
    .map(line => line.replace(/^npm error /, '').trim())
    .filter(line => line !== '')
  const telling = /^ERROR|^Error:|Failed to|unable to resolve|No rule to make|stopped after/
  const found = [...new Set(lines.filter(line => telling.test(line)))]
  return found.length > 0 ? found.slice(0, REASONS_MAX) : lines.slice(-REASONS_MAX)
}

contain()
const folder = mkdtempSync(join(tmpdir(), 'millrace-confluent-'))
try {
  say(`installing ${NAME} ${VERSION}; this may compile for minutes`)
  const reasons = await install(folder)
  if (reasons.length > 0) {
    say(`${NAME} ${VERSION} cannot be built or loaded here, so it is not measured:`)
    for (const reason of reasons) process.stderr.write(`  ${reason.slice(0, 120)}\n`)
  } else {
    const rates = await withInput(bed =>
      inTurn(bed, 'fetch', {
        millrace: consumes('millrace'),
        confluent: consumes('confluent', folder),
      }),
    )
    const ratio = ratioOf(rates, 'confluent')
    report(
      'confluent',
      [
        ...figures('fetch', rates),
        { name: 'ratioFetchToConfluent', value: ratio, unit: 'ours ÷ theirs' },
      ],
      { json: process.argv.includes('--json'), versions: peerVersions() },
    )
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
