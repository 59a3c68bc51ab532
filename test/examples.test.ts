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

test('the topology in the README is the one of the first example', () => {
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))![1]!
  const example = readFileSync(join(root, 'examples/1-orders-per-minute.ts'), 'utf8')
  const lines = code.split('\n').filter(line => line.trim() !== '' && !/^import/.test(line))
  for (const line of lines) expect(example).toContain(line)
})
