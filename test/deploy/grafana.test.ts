/** The Grafana dashboard asks for what a running Millrace tells, by its right name. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { root } from '../support/processes.ts'
import { queryNames } from '../support/promql.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'

interface Target {
  readonly expr: string
  readonly legendFormat: string
}

interface Panel {
  readonly title: string
  readonly type: string
  readonly description?: string
  readonly datasource?: { readonly uid: string }
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>
  readonly targets?: readonly Target[]
}

const path = join(root, 'deploy/grafana/millrace.json')
const { panels } = JSON.parse(readFileSync(path, 'utf8')) as { panels: readonly Panel[] }
const graphs = panels.filter(panel => panel.type !== 'row')
const targets = graphs.flatMap(panel => panel.targets ?? [])

/** Labels of each metric that the service exposes. */
type Exposed = ReadonlyMap<string, ReadonlySet<string>>

/** What is wrong with a query, or with the legend that names its labels. */
function problems({ expr, legendFormat }: Target, exposed: Exposed): string[] {
  const { metrics, labels, errors } = queryNames(expr)
  const legend = [...legendFormat.matchAll(/\{\{\s*(\w+)\s*\}\}/g)].map(match => match[1]!)
  const known = new Set(metrics.flatMap(metric => [...(exposed.get(metric) ?? [])]))
  return [
    ...errors.map(error => `${expr}: no PromQL at ${error}`),
    ...metrics.filter(one => !exposed.has(one)).map(one => `${expr}: no metric ${one}`),
    ...[...labels, ...legend].filter(one => !known.has(one)).map(one => `${expr}: no label ${one}`),
  ]
}

async function exposedBy(service: ServiceProcess): Promise<Exposed> {
  const exposed = new Map<string, Set<string>>()
  for (const { name, labels } of await service.metrics()) {
    const names = exposed.get(name) ?? new Set<string>()
    for (const label of Object.keys(labels)) names.add(label)
    exposed.set(name, names)
  }
  return exposed
}

test('every query of the dashboard names what /metrics exposes', { timeout: 120_000 }, async () => {
  const folder = await scratchFolder()
  // The demo's events: some metrics appear with the first record they count.
  const service = await ServiceProcess.start(folder.path)
  onTestFinished(async () => {
    await service.kill()
    await folder.remove()
  })
  expect(targets.length).toBeGreaterThan(10)
  await expect
    .poll(
      async () => {
        const exposed = await exposedBy(service)
        return targets.flatMap(target => problems(target, exposed))
      },
      { timeout: 90_000, interval: 1000 },
    )
    .toEqual([])
})

test('a wrong query is told', () => {
  const exposed: Exposed = new Map([['lag', new Set(['topic'])]])
  const told = (expr: string, legendFormat = '') => problems({ expr, legendFormat }, exposed)
  expect(told('sum by (topic) (rate(lag[$__rate_interval]))', '{{topic}}')).toEqual([])
  expect(told('sum(leg)')).toEqual(['sum(leg): no metric leg'])
  expect(told('sum by (tpc) (lag)')).toEqual(['sum by (tpc) (lag): no label tpc'])
  expect(told('lag', '{{step}}')).toEqual(['lag: no label step'])
  expect(told('sum(lag')).not.toEqual([])
})

test('panels say what they show, use the provisioned source and do not overlap', () => {
  const cells = new Map<string, string>()
  for (const { title, description, datasource, gridPos, targets: own } of graphs) {
    expect(description, title).toBeTruthy()
    expect(datasource?.uid, title).toBe('prometheus')
    expect(own?.length, title).toBeGreaterThan(0)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(cells.get(`${x} ${y}`), `${title} lies over it`).toBeUndefined()
        cells.set(`${x} ${y}`, title)
      }
    }
    expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
  }
})
