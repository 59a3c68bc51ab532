import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runProcess } from './support/processes.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-campaign-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function place(path: string, body: string): void {
  const file = join(folder, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, body)
}

async function campaigns(...args: string[]) {
  const all = ['test/campaign.ts', '--root', folder, ...args]
  const { code, output } = await runProcess(process.execPath, all, { timeoutMs: 30_000 })
  const lines = output.trimEnd().split('\n')
  return { code, output, last: lines.at(-1) }
}

const honest = `export const campaign = {
  name: 'honest',
  async run({ seed, rounds, ci, log }: Record<string, unknown>) {
    ;(log as (line: string) => void)('seed=' + seed + ' rounds=' + rounds + ' ci=' + ci)
    return { passed: 3, failed: 0, notes: [] }
  },
}`
const broken = `export const campaign = {
  name: 'broken',
  run: async () => ({ passed: 1, failed: 2, notes: ['round 7 differs'] }),
}`

test('without campaigns the run says so and is green', async () => {
  const { code, output, last } = await campaigns('--ci')
  expect(output).toContain('there are no campaigns yet')
  expect([code, last]).toEqual([0, '0 passed, 0 failed'])
})

test('a campaign gets the seed, the rounds and the short form', async () => {
  place('crash/honest.campaign.ts', honest)
  const given = await campaigns('--ci', '--seed', '42', '--rounds', '9')
  expect(given.output).toContain('seed=42 rounds=9 ci=true')
  expect([given.code, given.last]).toEqual([0, '3 passed, 0 failed'])
  expect((await campaigns('--ci')).output).toContain('seed=1 rounds=undefined ci=true')
  expect((await campaigns()).output).toMatch(/seed=\d+ rounds=undefined ci=false/)
})

test('a failure fails the run and prints the command that repeats it', async () => {
  place('crash/honest.campaign.ts', honest)
  place('oracle/broken.campaign.ts', broken)
  const { code, output, last } = await campaigns('--seed', '5', '--rounds', '2')
  expect([code, last]).toEqual([1, '4 passed, 2 failed'])
  expect(output).toContain('round 7 differs')
  expect(output).toContain('npm run test:campaign -- --only broken --seed 5 --rounds 2')
})

test('a campaign that throws, does nothing or is none is a failure', async () => {
  place('a.campaign.ts', `export const campaign = { name: 'a', run() { throw new Error('boom') } }`)
  place(
    'b.campaign.ts',
    `export const campaign = { name: 'b', run: async () => ({ passed: 0, failed: 0, notes: [] }) }`,
  )
  place('c.campaign.ts', `export const other = 1`)
  const { code, output, last } = await campaigns()
  expect([code, last]).toEqual([1, '0 passed, 3 failed'])
  expect(output).toContain('boom')
  expect(output).toContain('it did nothing')
  expect(output).toContain('c.campaign.ts exports no campaign')
})

test('--only runs the named campaign, and an unknown name fails', async () => {
  place('crash/honest.campaign.ts', honest)
  place('oracle/broken.campaign.ts', broken)
  expect((await campaigns('--only', 'honest')).last).toBe('3 passed, 0 failed')
  const unknown = await campaigns('--only', 'missing')
  expect([unknown.code, unknown.last]).toEqual([1, '0 passed, 1 failed'])
})
