/** What a group is told of a topology. */
import { expect, test } from 'vitest'
import { groupTopology } from '../../streams/group-topology.ts'
import { json, Topology, textKey } from '../../streams/index.ts'
import { planTopology } from '../../streams/plan.ts'

const options = { key: textKey(), value: json<number>() }

function described(build: (topology: Topology) => void) {
  const topology = new Topology('shop')
  build(topology)
  const counts = new Map([
    ['orders', 4],
    ['payments', 4],
  ])
  return groupTopology(planTopology(topology, counts)).subTopologies
}

test('what reads only repartition topics tells their count, and forms no co-partition group', () => {
  const [, narrow, wide] = described(topology => {
    const [orders, payments] = ['orders', 'payments'].map(name => topology.stream(name, options))
    const pair = (stem: string, partitions?: number) => {
      const parts = [orders!, payments!].map((stream, i) =>
        stream.repartition({ name: `${stem}-${i}`, key: textKey(), partitions }),
      )
      parts[0]!
        .merge(parts[1]!)
        .groupByKey({ name: 'same', key: textKey() })
        .count({ name: `${stem}-counts` })
    }
    orders!
      .merge(payments!)
      .groupByKey({ name: 'same', key: textKey() })
      .count({ name: 'together' })
    pair('narrow', 1)
    pair('wide')
  })
  for (const [sub, partitions] of [[narrow!, 1] as const, [wide!, 4] as const]) {
    expect(sub.repartitionSources.map(topic => topic.partitions)).toEqual([partitions, partitions])
    expect(sub.copartitionGroups).toEqual([])
  }
})

test('what reads a source topic too has the source topic’s count, by its co-partition group', () => {
  const [, joined] = described(topology => {
    const byValue = topology
      .stream('payments', options)
      .repartition({ name: 'by-value', key: textKey() })
    topology
      .stream('orders', options)
      .merge(byValue)
      .groupByKey({ name: 'same', key: textKey() })
      .count({ name: 'counts' })
  })
  expect(joined!.copartitionGroups).toEqual([['orders', 'shop-by-value-repartition']])
  expect(joined!.repartitionSources.map(({ partitions }) => partitions)).toEqual([0])
})

test('what one repartition topic leads to has as many partitions as what writes there', () => {
  const [, counted] = described(topology => {
    topology
      .stream('orders', options)
      .groupBy(String, { name: 'by-value', key: textKey() })
      .count({ name: 'counts' })
  })
  expect(counted!.copartitionGroups).toEqual([])
  expect(counted!.repartitionSources.map(({ partitions }) => partitions)).toEqual([0])
})
