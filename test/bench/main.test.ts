/** `npm run bench`: what it refuses, what it prints for programs, what it leaves behind. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { childEnvironment, root, runProcess } from '../support/processes.ts'

const main = join(root, 'bench/main.ts')

async function bench(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const { code, output } = await runProcess('node', [main, ...args], { timeoutMs: 60_000, env })
  return { code, output }
}

test.each([
  [['nonsense'], {}, 'There is no bench nonsense. There are: log, store, job'],
  [['toString'], {}, 'There is no bench toString.'],
  [['log', 'nonsense'], {}, 'There is no bench nonsense.'],
  [['job', '--fast'], {}, "Unknown option '--fast'"],
  [['job', '--variant', 'join'], {}, 'Only the bench reference has variants.'],
  [['startup', '--rounds', '0'], {}, 'BENCH_ROUNDS has "0": it takes whole numbers of at least 1.'],
  [['job'], { BENCH_ORDERS: '1e3.5' }, 'BENCH_ORDERS has "1e3.5"'],
  [['state'], { BENCH_ROWS: '1000,many' }, 'BENCH_ROWS has "many"'],
] as const)('%j with %j is refused in a line, before anything runs', async (args, env, said) => {
  const { code, output } = await bench(args, env)
  expect(output).toContain(said)
  expect(output.trim().split('\n')).toHaveLength(1)
  expect(code).toBe(2)
})

test('--help names every bench, and which need minutes or Java', async () => {
  const { code, output } = await bench(['--help'])
  expect(code).toBe(0)
  expect(output).toMatch(/ log store job .* state\* reference\*\* /)
})

test('--json ends with a line of JSON that names machine and versions', async () => {
  const { code, output } = await bench(['job', '--json'], { BENCH_ORDERS: '2000' })
  expect(code).toBe(0)
  const figures = JSON.parse(output.trim().split('\n').at(-1)!)
  expect(figures).toMatchObject({
    bench: 'job',
    machine: { cores: expect.any(Number), node: process.version, system: expect.any(String) },
    inputsPerSecond: expect.any(Number),
  })
})

/** Processes whose temporary folder it is. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc').filter(pid => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`TMPDIR=${folder}`)
    } catch {
      return false
    }
  })
}

test('a bench that is ended ends what it started, and deletes what that wrote', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-test-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const env = { ...childEnvironment, TMPDIR: folder, BENCH_ROWS: '5000000' }
  const child = spawn('node', [main, 'state'], { env, stdio: 'ignore' })
  const exited = once(child, 'exit')
  const written = () => readdirSync(folder, { recursive: true }).join()
  await expect.poll(written).toMatch(/millrace-state-\w+\/\d+\/\d+\.log/)
  expect(processesOf(folder).length).toBeGreaterThanOrEqual(2)
  child.kill('SIGTERM')
  expect((await exited)[0]).toBe(143)
  await expect.poll(() => processesOf(folder)).toEqual([])
  expect(readdirSync(folder)).toEqual([])
})
