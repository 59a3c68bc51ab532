/**
 * Sales with the names of their products, found by a field of the sale: every task has the whole
 * table, so no sale is moved. In memory: npx node examples/6-product-names.ts
 */
import { json, Topology, text, textKey } from '../streams/index.ts'
import { TopologyTestDriver } from '../streams/testing/index.ts'

interface Sale {
  readonly sku: string
  readonly quantity: number
}

const lines = { key: textKey(), value: text() }
const topology = new Topology('sales')
const products = topology.globalTable('products', lines)
topology
  .stream('sales', { key: textKey('order'), value: json<Sale>() })
  .joinGlobal(products, ({ quantity }, name) => `${quantity} × ${name}`, {
    name: 'named-sales',
    by: ({ sku }) => sku,
  })
  .to('named', lines)

const driver = await TopologyTestDriver.open(topology, { partitions: 4 })
const product = (key: string, value: string) => ({ key, value, timeMs: 1 })
await driver.pipe('products', product('m1', 'mug'), product('t1', 'teapot'))
const sale = (key: string, sku: string, quantity: number) => {
  return { key, value: { sku, quantity }, timeMs: 2 }
}
await driver.pipe('sales', sale('o1', 'm1', 2), sale('o2', 't1', 1), sale('o3', 'm1', 5))
for (const { key, value } of await driver.output('named', lines)) console.log(key, value)
await driver.close()
