/**
 * Prices change while orders arrive: each order gets the price of its own time, whichever topic is
 * read first. In memory, without a broker: npx node examples/4-price-as-of.ts
 */
import { json, Topology, textKey } from '../streams/index.ts'
import { TopologyTestDriver } from '../streams/testing/index.ts'

const minute = 60_000
const noon = Date.UTC(2026, 0, 5, 12)
const numbers = { key: textKey('sku'), value: json<number>() }

const topology = new Topology('prices')
const prices = topology.table('prices', { name: 'prices', ...numbers })
topology
  .stream('orders', numbers)
  .joinAsOf(prices, (quantity, price) => ({ quantity, total: quantity * price }), {
    name: 'priced',
    graceMs: minute,
  })
  .to('priced', { key: textKey(), value: json() })

const driver = await TopologyTestDriver.open(topology, { startMs: noon })
const at = (minutes: number, key: string, value: number) => {
  return { key, value, timeMs: noon + minutes * minute }
}
await driver.pipe('orders', at(5, 'mug', 2), at(15, 'mug', 2), at(30, 'cup', 1))
// The price of 10 past is read after the order of a quarter past, and is there in time.
await driver.pipe('prices', at(0, 'mug', 500), at(10, 'mug', 450), at(30, 'cup', 300))

// The order of the cup is not among them: it waits, as prices may come a minute late.
for (const { key, value, timeMs } of await driver.output('priced', {
  key: textKey(),
  value: json<{ quantity: number; total: number }>(),
})) {
  console.log(new Date(timeMs).toISOString().slice(11, 16), key, value)
}
await driver.close()
