import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { machinePath, root, runProcess } from './support/processes.ts'

const examples = readdirSync(join(root, 'examples')).filter(name => name.endsWith('.ts'))

for (const name of examples) {
  test(`examples/${name} runs`, async () => {
    const file = join(root, 'examples', name)
    const { code, output } = await runProcess(process.execPath, [file], { timeoutMs: 30_000 })
    expect(output).not.toMatch(/Error|Warning/)
    expect(code).toBe(0)
    expect(output.length).toBeGreaterThan(20)
  })
}

test('the command of the README runs an example under any Node of the machine', async () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const [command, ...args] = /`(npx node examples[^`]+)`/.exec(readme)![1]!.split(' ')
  const env = { PATH: machinePath }
  const { code, output } = await runProcess(command!, args, { timeoutMs: 60_000, env, cwd: root })
  expect(output).toContain("'south'")
  expect(code).toBe(0)
})

test('the paid orders go on where they stopped', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-example-'))
  const spent = async () => {
    const args = [join(root, 'examples/2-paid-orders.ts'), directory]
    const { output } = await runProcess(process.execPath, args, { timeoutMs: 30_000 })
    return (JSON.parse(output) as { rows: { spend: number }[] }).rows[0]?.spend
  }
  expect([await spent(), await spent()]).toEqual([42, 84])
  await rm(directory, { recursive: true, force: true })
})

test('the bank tells the balance at a date, and why it is 750', async () => {
  const args = [join(root, 'examples/3-bank-account.ts')]
  const { output } = await runProcess(process.execPath, args, { timeoutMs: 30_000 })
  const balances = [...output.matchAll(/^balance on (\S+): (.*)$/gm)].map(([, , text]) => text)
  expect(balances).toEqual(['no account', '1000', '800', '500', '750'])
  const why = /why is it 750\?\n((?: {2}.*\n)+)/.exec(output)![1]!.trimEnd().split('\n')
  expect(why.map(line => line.split(' = ').at(-1))).toEqual(['0', '1000', '800', '500', '750'])
  expect(output).toContain('heard late: balance on 2026-02-15: 805')
  expect(output).toContain('all on 2026-03-01: ann 505, bob 300')
})

test('the first example prints what the README says', async () => {
  const file = join(root, 'examples/1-orders-per-minute.ts')
  const { output } = await runProcess(process.execPath, [file], { timeoutMs: 30_000 })
  const rows = output.split('\n').map(line => line.match(/'(north|south)'|true|false|\d+/g) ?? [])
  const shown = rows.filter(cells => cells[1]?.startsWith("'")).map(cells => cells.join(' '))
  expect(shown).toEqual(["0 'north' 0 60000 true 2 42", "1 'south' 60000 120000 false 2 12"])
})

test('the topology in the README is the one of the first example', () => {
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))![1]!
  const example = readFileSync(join(root, 'examples/1-orders-per-minute.ts'), 'utf8')
  const lines = code.split('\n').filter(line => line.trim() !== '' && !/^import/.test(line))
  for (const line of lines) expect(example).toContain(line)
})
