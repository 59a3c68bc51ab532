/**
 * A bank account made of what happened to it: its balance at any date, and why it is 750. Opened,
 * deposited, withdrawn and transferred are events; the balance is what they come to.
 * Run it: npx node examples/3-bank-account.ts
 */
import { Type } from 'typebox'
import { json, Topology, textKey } from '../streams/index.ts'
import { TopologyTestDriver } from '../streams/testing/index.ts'

type BankEvent =
  | { readonly type: 'AccountOpened'; readonly account: string; readonly owner: string }
  | { readonly type: 'Deposited' | 'Withdrawn'; readonly account: string; readonly amount: number }
  | {
      readonly type: 'Transferred'
      readonly account: string
      readonly to: string
      readonly amount: number
    }

/** What an event means to one account: a transfer means something to two. */
interface Entry {
  readonly what: string
  readonly amount: number
  readonly by: string
  readonly at: number
}

interface Account {
  readonly balance: number
  readonly entries: readonly Entry[]
}

const topology = new Topology('bank')
topology
  .stream('bank-events', { key: textKey(), value: json<BankEvent>() })
  .mapValues((event, _key, record) => {
    const by = record.header('actor')?.toString() ?? 'unknown'
    return { event, by, at: record.timeMs }
  })
  .flatMap(({ event, ...told }) => entriesOf(event, told))
  .groupByKey({ name: 'entries-by-account', key: textKey('account') })
  .aggregate<Account>({
    name: 'accounts',
    initial: () => ({ balance: 0, entries: [] }),
    add: ({ balance, entries }, entry) => ({
      balance: balance + entry.amount,
      entries: [...entries, entry],
    }),
    // Every entry is kept, for ever: the balance as of a date is those up to it, added up.
    versioned: { historyMs: Number.POSITIVE_INFINITY },
  })
  .view({
    name: 'accounts',
    description: 'Balance of each account, and the entries that led there',
    value: {
      balance: Type.Integer({ description: 'Minor units' }),
      entries: Type.Array(Type.Object({ what: Type.String(), amount: Type.Integer() })),
    },
  })

function entriesOf(event: BankEvent, told: Pick<Entry, 'by' | 'at'>): [string, Entry][] {
  const entry = (what: string, amount: number): Entry => ({ what, amount, ...told })
  switch (event.type) {
    case 'AccountOpened':
      return [[event.account, entry(`opened for ${event.owner}`, 0)]]
    case 'Deposited':
      return [[event.account, entry('deposited', event.amount)]]
    case 'Withdrawn':
      return [[event.account, entry('withdrawn', -event.amount)]]
    case 'Transferred':
      return [
        [event.account, entry(`to ${event.to}`, -event.amount)],
        [event.to, entry(`from ${event.account}`, event.amount)],
      ]
  }
}

const bank = await TopologyTestDriver.open(topology, { startMs: Date.UTC(2026, 11, 31) })
const date = (text: string) => Date.parse(`${text}T12:00Z`)
const happened = (on: string, actor: string, value: BankEvent) =>
  bank.pipe('bank-events', {
    key: value.account,
    value,
    timeMs: date(on),
    headers: { actor },
  })
const tell = (line: string) => console.log(line)
const ofAnn = async (asOf?: number) => {
  const { row } = await bank.views.row('accounts', 'ann', asOf === undefined ? {} : { asOf })
  return row as (Account & { readonly account: string }) | undefined
}

await happened('2026-01-05', 'branch', { type: 'AccountOpened', account: 'ann', owner: 'Ann' })
await happened('2026-01-05', 'branch', { type: 'AccountOpened', account: 'bob', owner: 'Bob' })
await happened('2026-01-10', 'employer', { type: 'Deposited', account: 'ann', amount: 1000 })
await happened('2026-02-01', 'ann', { type: 'Withdrawn', account: 'ann', amount: 200 })
await happened('2026-03-01', 'ann', {
  type: 'Transferred',
  account: 'ann',
  to: 'bob',
  amount: 300,
})
await happened('2026-03-15', 'employer', { type: 'Deposited', account: 'ann', amount: 250 })

for (const day of ['2026-01-01', '2026-01-31', '2026-02-15', '2026-03-10', '2026-03-31']) {
  tell(`balance on ${day}: ${(await ofAnn(date(day)))?.balance ?? 'no account'}`)
}

const why = await ofAnn()
tell(`why is it ${why?.balance}?`)
let sum = 0
for (const { what, amount, by, at } of why?.entries ?? []) {
  sum += amount
  tell(`  ${new Date(at).toISOString().slice(0, 10)} ${what} by ${by}: ${amount} = ${sum}`)
}

// What is heard late takes its place: history is by when things happened.
await happened('2026-02-10', 'bank', { type: 'Deposited', account: 'ann', amount: 5 })
tell(`heard late: balance on 2026-02-15: ${(await ofAnn(date('2026-02-15')))?.balance}`)
tell(`heard late: balance now: ${(await ofAnn())?.balance}`)

// All accounts at one date: what one gave, the other got.
const rows = await bank.rows('accounts', date('2026-03-01'))
tell(`all on 2026-03-01: ${rows.map(({ account, balance }) => `${account} ${balance}`).join(', ')}`)
await bank.close()
