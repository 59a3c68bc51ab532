/**
 * `npm run test:campaign`: seeded campaigns, longer than a test may be. A campaign is a file
 * `test/<folder>/<name>.campaign.ts` that exports `campaign` (support/campaigns.ts).
 *
 *   --ci         the short form, with a fixed seed
 *   --seed N     repeats a run
 *   --rounds N   how much of it, in the campaign's own unit
 *   --only NAME  one campaign; may be given several times
 *   --root DIR   where to look, for the runner's own test
 *
 * The last line is `N passed, N failed`.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runCampaigns } from './support/campaigns.ts'
import { root } from './support/processes.ts'
import { totalLine } from './support/totals.ts'

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d{1,10}$/.test(text)) throw new Error(`--${name} takes a whole number, not '${text}'`)
  return Number(text)
}

const { values } = parseArgs({
  options: {
    ci: { type: 'boolean', default: false },
    seed: { type: 'string' },
    rounds: { type: 'string' },
    only: { type: 'string', multiple: true },
    root: { type: 'string', default: join(root, 'test') },
  },
})

const counts = await runCampaigns({
  folder: values.root,
  ci: values.ci,
  seed: wholeNumber('seed', values.seed) ?? (values.ci ? 1 : Date.now() % 1_000_000_000),
  rounds: wholeNumber('rounds', values.rounds),
  only: values.only ?? [],
  print: line => process.stdout.write(`${line}\n`),
})
// Not left to the event loop: a campaign's forgotten handle must not hold the run.
process.stdout.write(`${totalLine(counts)}\n`, () => process.exit(counts.failed === 0 ? 0 : 1))
