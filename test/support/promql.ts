/** What a PromQL query asks for, by Prometheus' own grammar. */
import { parser } from '@prometheus-io/lezer-promql'

export interface QueryNames {
  readonly metrics: readonly string[]
  readonly labels: readonly string[]
  /** The parts that are no PromQL. */
  readonly errors: readonly string[]
}

/** Grafana's own variables become durations, as Grafana itself would fill them in. */
export function queryNames(query: string): QueryNames {
  const text = query.replaceAll('$__rate_interval', '5m')
  const metrics: string[] = []
  const labels: string[] = []
  const errors: string[] = []
  parser.parse(text).iterate({
    enter(node) {
      const part = text.slice(node.from, node.to)
      if (node.type.isError) errors.push(`${node.from}: ${part || text.slice(node.from)}`)
      else if (node.name === 'VectorSelector') metrics.push(/^[\w:]+/.exec(part)?.[0] ?? part)
      else if (node.name === 'LabelName') labels.push(part)
    },
  })
  return { metrics, labels, errors }
}
