/**
 * `job`: the reference job on the embedded log, exactly once, as a backlog. Orders ⋈ payments
 * within 2 min (grace 30 s), re-key by region, 10-s tumbling count and sum (grace 30 s), output
 * topic. The result is checked against what the input says.
 */
import { decodeBatches } from '../log/record-columns.ts'
import { Engine } from '../streams/engine.ts'
import { type Bed, environment, withBed } from './environment.ts'
import { referenceTopology } from './reference/topology.ts'
import { PARTITIONS, produceReference } from './reference-input.ts'
import { type Figure, measured } from './report.ts'
import { setting } from './settings.ts'

const ORDERS = setting('BENCH_ORDERS', 1_000_000)
/** Of the whole input; a smaller one is checked for count alone. */
const TRUTH = { joined: 949_905, amount: 23_981_953_270, windows: 5_286 }

interface Sum {
  readonly count: number
  readonly sum: number
}

async function outputs({ log }: Bed): Promise<Map<string, Sum>> {
  const latest = new Map<string, Sum>()
  for (let partition = 0; partition < PARTITIONS; partition++) {
    for (let offset = 0; ; ) {
      const [response] = await log.fetch([
        { topic: 'revenue', partition, offset, bytesMax: 1 << 22 },
      ])
      const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
      if (nextOffset === offset) break
      offset = nextOffset
      for (const columns of runs) {
        for (let i = 0; i < columns.length; i++) {
          const key = columns.bytes.latin1Slice(columns.keyStart[i]!, columns.keyEnd[i]!)
          const text = columns.bytes.utf8Slice(columns.valueStart[i]!, columns.valueEnd[i]!)
          const [count, sum] = text.split(',').map(Number) as [number, number]
          latest.set(key, { count, sum })
        }
      }
    }
  }
  return latest
}

export async function job(): Promise<Figure[]> {
  const figures: Figure[] = []
  await withBed(async bed => {
    const { log, database } = bed
    process.stderr.write(`job: producing ${ORDERS} orders and their payments\n`)
    for (const topic of ['orders', 'payments']) await log.createTopic(topic, PARTITIONS)
    const inputs = await produceReference(log, { orders: ORDERS })
    const engine = await Engine.open({
      topology: referenceTopology({ application: 'reference', output: 'revenue' }),
      log,
      database,
      environment,
      settings: { idleAfterMs: Number.POSITIVE_INFINITY },
    })
    let rssMax = 0
    const sampling = setInterval(() => {
      rssMax = Math.max(rssMax, process.memoryUsage.rss())
    }, 20)
    process.stderr.write(`job: processing ${inputs} inputs\n`)
    const run = await measured(() => engine.drain())
    clearInterval(sampling)
    const results = [...(await outputs(bed)).values()]
    const joined = results.reduce((total, { count }) => total + count, 0)
    const amount = results.reduce((total, { sum }) => total + sum, 0)
    const whole = ORDERS === 1_000_000
    const correct =
      !whole ||
      (joined === TRUTH.joined && amount === TRUTH.amount && results.length === TRUTH.windows)
    if (!correct) throw new Error(`wrong: ${joined} joined, ${amount}, ${results.length} windows`)
    await engine.stop()
    figures.push(
      { name: 'inputsPerSecond', value: (inputs / run.ms) * 1000, unit: 'inputs/s' },
      { name: 'cpuPerInput', value: run.cpuUs / inputs, unit: 'µs/input' },
      { name: 'rssMiB', value: rssMax / 2 ** 20, unit: 'MiB, largest seen' },
      { name: 'epochs', value: engine.epochs, unit: 'epochs' },
      { name: 'joined', value: joined, unit: whole ? 'joined, checked' : 'joined' },
    )
  })
  return figures
}
