import { execFile } from 'node:child_process'
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { machinePath, root } from '../support/processes.ts'
import { scratchFolder } from '../support/service-process.ts'

function run(file: string, args: readonly string[]) {
  const env = { ...process.env, PATH: machinePath }
  return new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    execFile(file, args, { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

const launcher = join(root, 'cli/millrace')

test('the launcher runs under the Node of the machine, also by a link as npx makes it', async () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  expect(await run(launcher, ['--version'])).toEqual({
    code: 0,
    stdout: `${version}\n`,
    stderr: '',
  })
  const { path, remove } = await scratchFolder()
  symlinkSync(launcher, join(path, 'millrace'))
  expect((await run(join(path, 'millrace'), ['--version'])).stdout).toBe(`${version}\n`)
  await remove()
})

test('misuse exits with 2 and says what to do, on standard error', async () => {
  for (const args of [['dance'], ['start', '--prot', '1'], ['import'], ['start', '--port', 'x']]) {
    const { code, stdout, stderr } = await run(launcher, args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/^millrace: /)
    expect(stderr).not.toContain('at ')
  }
})

test('off loopback without credentials nothing is started', async () => {
  const { path, remove } = await scratchFolder()
  const data = join(path, 'data')
  const args = ['start', '--host', '0.0.0.0', '--port', '0', '--data-dir', data]
  const { code, stderr } = await run(launcher, args)
  expect(code).toBe(2)
  expect(stderr).toContain('API_KEYS')
  expect(existsSync(data)).toBe(false)
  await remove()
})

test('a file that is not there, and a folder, are told before anything is opened', async () => {
  const { path, remove } = await scratchFolder()
  for (const file of [join(path, 'missing.ndjson'), path]) {
    const { code, stderr } = await run(launcher, ['import', file, '--data-dir', join(path, 'data')])
    expect(code).toBe(1)
    expect(stderr).toContain(file)
  }
  expect(existsSync(join(path, 'data'))).toBe(false)
  await remove()
})

test('the topology is printed as text, JSON and Mermaid', async () => {
  const text = await run(launcher, ['topology'])
  expect(text.stdout).toContain('view order-volume')
  const { applications } = JSON.parse((await run(launcher, ['topology', '--json'])).stdout)
  const [{ application, nodes, views }] = applications
  expect(application).toBe('analytics')
  expect(views.map(({ name }: { name: string }) => name)).toContain('revenue')
  const mermaid = (await run(launcher, ['topology', '--mermaid'])).stdout
  expect(mermaid).toMatch(/^flowchart LR\n/)
  for (const { id } of nodes) expect(mermaid).toContain(`a0n${id}`)
})
