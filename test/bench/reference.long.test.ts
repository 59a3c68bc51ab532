/** `npm run bench -- reference --json`, in small: what a program gets to read. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { describe, expect, onTestFinished, test } from 'vitest'
import { findMaven } from '../support/java.ts'
import { kafkaIsMissing } from '../support/kafka/shared.ts'
import { childEnvironment, root } from '../support/processes.ts'

const isMissing = kafkaIsMissing !== undefined || findMaven() === undefined

describe.skipIf(isMissing)('the reference job beside Kafka Streams', () => {
  test.each([['main'], ['embedded']])(
    '%s: one line of JSON, and nothing else',
    async variant => {
      const args = ['bench/main.ts', 'reference', '--variant', variant, '--json', '--rounds', '1']
      const env = { ...childEnvironment, BENCH_ORDERS: '5000' }
      const child = spawn('node', args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
      // Which ends all that it started.
      onTestFinished(() => void child.kill('SIGTERM'))
      const [stdout, stderr, [code]] = await Promise.all([
        text(child.stdout),
        text(child.stderr),
        once(child, 'exit'),
      ])
      expect(code, stderr).toBe(0)
      expect(stdout.endsWith('}\n')).toBe(true)
      expect(JSON.parse(stdout)).toMatchObject({
        bench: 'reference',
        machine: { kafkaStreams: expect.stringMatching(/^\d/), java: expect.stringMatching(/^\d/) },
        ratioInputsPerSecond: expect.any(Number),
        ratioCpuPerInput: expect.any(Number),
        ratioRss: expect.any(Number),
        correct: true,
      })
    },
    600_000,
  )
})
