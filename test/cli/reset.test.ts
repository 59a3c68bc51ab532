import { pino } from 'pino'
import { afterEach, expect, test } from 'vitest'
import { noAuth } from '../../api/index.ts'
import { resetCommand } from '../../cli/reset.ts'
import { openService } from '../../cli/service.ts'
import { scratchFolder } from '../support/service-process.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

test('a step is reset by its name; a name that is none changes nothing', async () => {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  const service = await openService({
    dataDir: path,
    viewRetentionMs: 1e9,
    idleAfterMs: Number.POSITIVE_INFINITY,
    auth: noAuth,
    createTopics: true,
    logger: pino({ level: 'silent' }),
  })
  await service.close()
  let told = ''
  const terminal = {
    environment: {},
    isInteractive: false,
    out: (text: string) => {
      told += text
    },
    err: () => {},
  }
  const reset = (...operands: string[]) =>
    resetCommand.run({ flags: { 'data-dir': path }, operands, terminal })
  await expect(reset('customer-profile', 'nothing')).rejects.toMatchObject({ code: 'USAGE' })
  expect(told).toBe('')
  // What is made of it would keep what it has of the old state.
  await expect(reset('payment-attempts')).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringMatching(/name them, too: .*revenue/),
  })
  expect(await reset('customer-profile')).toBe(0)
  expect(told).toBe(
    'Deleted what customer-profile held, and analytics-customer-profile-changelog\n',
  )
  await expect(reset('customer-profile')).rejects.toMatchObject({ code: 'USAGE' })
})
