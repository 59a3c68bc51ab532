import { afterEach, beforeEach, expect, test } from 'vitest'
import { allApplications } from '../../cli/applications.ts'
import { openFolder } from '../../cli/log-access.ts'
import { resetCommand } from '../../cli/reset.ts'
import { openQuietService } from '../support/quiet-service.ts'
import { scratchFolder } from '../support/service-process.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** What the commands of a test have told. */
let told = ''
beforeEach(() => {
  told = ''
})

function run(flags: Readonly<Record<string, string>>, operands: readonly string[]) {
  const terminal = {
    environment: {},
    isInteractive: false,
    out: (text: string) => {
      told += text
    },
    err: () => {},
  }
  return resetCommand.run({ flags, operands, terminal })
}

test('a step is reset by its name; a name that is none changes nothing', async () => {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  const topologies = allApplications({ viewRetention: 1e9 })
  await (await openQuietService({ dataDir: path, topologies })).close()
  const reset = (...operands: string[]) => run({ 'data-dir': path }, operands)
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

test('one application is reset by its name, with the topics that it reads', async () => {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  const topologies = allApplications({ viewRetention: 1e9 }).filter(({ application }) =>
    ['analytics', 'order'].includes(application),
  )
  await (await openQuietService({ dataDir: path, topologies })).close()
  const reset = (application: string) => run({ 'data-dir': path, application }, [])
  await expect(reset('nothing')).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining('there are analytics, '),
  })
  expect(await reset('order')).toBe(0)
  // Orders, payments, inventory and fulfilment.
  expect(told).toMatch(/^Deleted the state of order and \d+ internal topics; 16 input partitions/)
  const { log, close } = await openFolder(path)
  const names = (await log.listTopics()).map(({ name }) => name)
  await close()
  expect(names.filter(name => name.startsWith('order-'))).toEqual([])
  expect(names.filter(name => name.startsWith('analytics-')).length).toBeGreaterThan(10)
})
