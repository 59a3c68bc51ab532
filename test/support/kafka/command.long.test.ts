/** `npm run kafka` as people use it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { childEnvironment, root, runProcess } from '../processes.ts'
import { kafkaIsMissing, START_MS_MAX } from './shared.ts'

const START = { timeout: START_MS_MAX }

/** Runs `npm run kafka` until it says how to go on. */
async function startCommand(...flags: readonly string[]) {
  const child = spawn('npm', ['run', '-s', 'kafka', '--', '--port', '0', ...flags], {
    cwd: root,
    env: childEnvironment,
    stdio: ['ignore', 'pipe', 'inherit'],
    // A group of its own stands for a terminal: Ctrl-C reaches npm and its child.
    detached: true,
  })
  const exited = once(child, 'exit')
  onTestFinished(() => {
    if (child.exitCode === null) process.kill(-child.pid!, 'SIGKILL')
  })
  let output = ''
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', chunk => {
      output += chunk
      if (output.includes('Ctrl-C ends it.')) resolve()
    })
    exited.then(() => reject(new Error(output)))
  })
  return {
    bootstrap: /runs at (\S+)/.exec(output)![1]!,
    folder: /logs +(\S+)/.exec(output)![1]!,
    async interrupt(): Promise<number> {
      process.kill(-child.pid!, 'SIGINT')
      return (await exited)[0]
    },
  }
}

function command(...args: readonly string[]) {
  const script = join(import.meta.dirname, 'main.ts')
  return runProcess(process.execPath, [script, ...args], { timeoutMs: 120_000 })
}

describe.skipIf(kafkaIsMissing !== undefined)('npm run kafka', () => {
  test('runs until Ctrl-C, then leaves nothing behind', START, async () => {
    const { bootstrap, folder, interrupt } = await startCommand()
    const list = await command('tool', 'topics', '--bootstrap-server', bootstrap, '--list')
    expect(list.code, list.output).toBe(0)
    expect(existsSync(folder)).toBe(true)
    expect(await interrupt()).toBe(0)
    expect(existsSync(folder)).toBe(false)
  })

  test('keeps the data it is told to keep', START, async () => {
    const data = mkdtempSync(join(tmpdir(), 'millrace-kafka-kept-'))
    const first = await startCommand('--data', data)
    const create = ['--create', '--topic', 'kept', '--bootstrap-server', first.bootstrap]
    expect((await command('tool', 'topics', ...create)).code).toBe(0)
    await first.interrupt()
    const second = await startCommand('--data', data)
    const list = ['--list', '--bootstrap-server', second.bootstrap]
    expect((await command('tool', 'topics', ...list)).output).toContain('kept')
    await second.interrupt()
    expect(existsSync(data)).toBe(true)
    rmSync(data, { recursive: true })
  })
})

test('what is asked wrongly is told with the usage', async () => {
  for (const args of [['--brokers', '2'], ['--port', 'x'], ['--unknown'], ['tool', 'nothing']]) {
    const { code, output } = await command(...args)
    expect(code).toBe(1)
    expect(output).toContain('npm run kafka -- [--port N]')
  }
})

describe('without Java', () => {
  /** Runs this file's tests where PATH leads to the project's own programs only. */
  function runWithoutJava(environment: NodeJS.ProcessEnv) {
    const path = join(root, 'node_modules/.bin')
    const vitest = join(root, 'node_modules/vitest/vitest.mjs')
    const args = [vitest, 'run', 'command.long.test.ts', '-t', 'npm run kafka']
    return runProcess(process.execPath, args, {
      timeoutMs: 60_000,
      env: { PATH: path, JAVA_HOME: '', NO_COLOR: '1', ...environment },
    })
  }

  test('tests against Kafka are skipped, saying why', async () => {
    const { code, output } = await runWithoutJava({ CI: '' })
    expect(output).toContain('SKIPPED: tests against Apache Kafka. Java 17 or newer is missing')
    expect(code).toBe(0)
  })

  test('they fail in CI', async () => {
    const { code, output } = await runWithoutJava({ CI: 'true' })
    expect(output).toContain('Java 17 or newer is missing')
    expect(code).toBe(1)
  })
})
