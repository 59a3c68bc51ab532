/** Finding and running seeded campaigns; `test/campaign.ts` is the command. */
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Counts } from './totals.ts'

export interface CampaignRun {
  readonly seed: number
  /** In the campaign's own unit; absent means its own choice. */
  readonly rounds: number | undefined
  /** The short form: minutes, not hours. */
  readonly ci: boolean
  readonly log: (line: string) => void
}

export interface CampaignResult {
  readonly passed: number
  readonly failed: number
  /** A line for each failure, with what is needed to understand it; others are welcome. */
  readonly notes: readonly string[]
}

export interface Campaign {
  readonly name: string
  run(options: CampaignRun): Promise<CampaignResult>
}

export interface CampaignsOptions {
  readonly folder: string
  readonly seed: number
  readonly rounds: number | undefined
  readonly ci: boolean
  /** Names to run; all when empty. */
  readonly only: readonly string[]
  readonly print: (line: string) => void
}

function isCampaign(value: unknown): value is Campaign {
  const candidate = value as Partial<Campaign> | null | undefined
  return typeof candidate?.name === 'string' && typeof candidate.run === 'function'
}

/** Files below the folder that hold a campaign, in a fixed order. */
export function findCampaigns(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.campaign.ts') && !path.includes('node_modules'))
    .sort()
    .map(path => join(folder, path))
}

async function runOne(
  campaign: Campaign,
  { seed, rounds, ci, print }: CampaignsOptions,
): Promise<CampaignResult> {
  const log = (line: string) => print(`  ${campaign.name}: ${line}`)
  try {
    const result = await campaign.run({ seed, rounds, ci, log })
    if (result.passed + result.failed > 0) return result
    return { passed: 0, failed: 1, notes: ['it did nothing', ...result.notes] }
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return { passed: 0, failed: 1, notes: [text] }
  }
}

function repeatCommand(name: string, { seed, rounds, ci }: CampaignsOptions): string {
  const size = rounds === undefined ? '' : ` --rounds ${rounds}`
  return `npm run test:campaign -- --only ${name} --seed ${seed}${size}${ci ? ' --ci' : ''}`
}

/** Runs the campaigns one after the other; each failure comes with the command to repeat it. */
export async function runCampaigns(options: CampaignsOptions): Promise<Counts> {
  const { folder, only, print } = options
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
  const files = findCampaigns(folder)
  const known = new Set<string>()
  print(`campaigns: ${files.length} files, seed ${options.seed}`)
  if (files.length === 0) print('there are no campaigns yet')
  for (const file of files) {
    const module: Record<string, unknown> = await import(pathToFileURL(file).href)
    const { campaign } = module
    if (!isCampaign(campaign)) {
      print(`FAIL ${relative(folder, file)} exports no campaign`)
      counts.failed++
      continue
    }
    known.add(campaign.name)
    if (only.length > 0 && !only.includes(campaign.name)) continue
    const startedMs = Date.now()
    print(`${campaign.name} (${relative(folder, file)})`)
    const { passed, failed, notes } = await runOne(campaign, options)
    counts.passed += passed
    counts.failed += failed
    for (const note of notes) print(`  ${note}`)
    const seconds = ((Date.now() - startedMs) / 1000).toFixed(1)
    print(
      `${failed === 0 ? 'ok  ' : 'FAIL'} ${campaign.name}: ${passed} passed, ${failed} failed, ${seconds} s`,
    )
    if (failed > 0) print(`  repeat: ${repeatCommand(campaign.name, options)}`)
  }
  for (const name of only.filter(name => !known.has(name))) {
    print(`FAIL there is no campaign named ${name}; known: ${[...known].join(', ') || 'none'}`)
    counts.failed++
  }
  return counts
}
