/**
 * A time chart on a canvas. Windows that may still change are dashed under a hatched band.
 * Arrow keys move the cursor, so that values can be read without a mouse.
 */
import { useSignalEffect } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { time } from '../format.ts'
import { colour, theme } from '../theme.ts'

export interface ChartLine {
  readonly label: string
  /** Name of a colour of the page. */
  readonly colour: string
  readonly values: readonly (number | null)[]
}

export interface ChartProps {
  /** What the chart shows, for people who do not see it. */
  readonly name: string
  /** Epoch ms. */
  readonly times: readonly number[]
  readonly lines: readonly ChartLine[]
  readonly provisionalFrom: number
  readonly height: number
  readonly format: (value: number) => string
  /** Filled to the line below, lines already stacked, lowest first. */
  readonly area?: boolean
  readonly axes?: boolean
  /** Charts of one group share the cursor. */
  readonly group?: string
  readonly onCursor?: (index: number | undefined) => void
}

export function Chart(props: ChartProps) {
  const host = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const latest = useRef(props)
  latest.current = props
  const shape = `${props.lines.map(line => `${line.label} ${line.colour}`).join('|')} ${props.height}`

  useEffect(() => make(host.current!, latest, plot), [shape])
  useEffect(() => {
    plot.current?.setData(columnsOf(latest.current))
  })
  useSignalEffect(() => {
    void theme.value
    // The canvas has its colours from the page's style, which changes with the theme.
    requestAnimationFrame(() => plot.current?.redraw(false, true))
  })

  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (step === undefined || plot.current === undefined) return
    event.preventDefault()
    moveCursor(plot.current, step)
  }
  return (
    // The arrow keys move the cursor: the chart is a control, not only a picture.
    <div
      class="chart"
      ref={host}
      role="slider"
      tabIndex={0}
      aria-label={`${props.name}: move along time with the arrow keys`}
      aria-valuemin={0}
      aria-valuemax={props.times.length - 1}
      aria-valuenow={props.times.length - 1}
      aria-valuetext={valueText(props, props.times.length - 1)}
      style={{ height: `${props.height}px` }}
      onKeyDown={onKeyDown}
    />
  )
}

type Latest = { readonly current: ChartProps }

function make(host: HTMLDivElement, latest: Latest, plot: { current: uPlot | undefined }) {
  const made = new uPlot(optionsOf(host, latest), columnsOf(latest.current), host)
  plot.current = made
  const resized = new ResizeObserver(() => {
    if (host.clientWidth > 0) {
      made.setSize({ width: host.clientWidth, height: latest.current.height })
    }
  })
  resized.observe(host)
  return () => {
    resized.disconnect()
    made.destroy()
    plot.current = undefined
  }
}

/** Time in s; then of each line what is final and what is not, which meet in one point. */
function columnsOf({ times, lines, provisionalFrom, area }: ChartProps): uPlot.AlignedData {
  const ordered = area ? [...lines].reverse() : lines
  const split = times.findIndex(at => at >= provisionalFrom)
  const end = split < 0 ? times.length : split
  const columns: (number | null)[][] = []
  for (const { values } of ordered) {
    columns.push(values.map((value, index) => (area || index < end ? value : null)))
    if (!area) columns.push(values.map((value, index) => (index >= end - 1 ? value : null)))
  }
  return [times.map(at => at / 1000), ...columns] as uPlot.AlignedData
}

function optionsOf(host: HTMLDivElement, latest: Latest): uPlot.Options {
  const { lines, height, area = false, axes = false, group } = latest.current
  const ordered = area ? [...lines].reverse() : lines
  const series: uPlot.Series[] = [{}]
  for (const line of ordered) {
    const stroke = () => colour(line.colour)
    const base = { label: line.label, stroke, width: area ? 1 : 1.75, points: { show: false } }
    series.push({ ...base, fill: () => colour(`${line.colour}-${area ? 'fill' : 'wash'}`) })
    if (!area) series.push({ ...base, dash: [3, 3], width: 1.5 })
  }
  return {
    width: Math.max(50, host.clientWidth),
    height,
    series,
    padding: axes ? [6, 14, 0, 0] : [4, 2, 2, 2],
    legend: { show: false },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.08)] } },
    axes: axes ? [timeAxis(), valueAxis(latest)] : [{ show: false }, { show: false }],
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { show: false },
      ...(group === undefined ? {} : { sync: { key: group, setSeries: false } }),
    },
    hooks: {
      draw: [plot => drawProvisional(plot, latest.current.provisionalFrom)],
      setCursor: [plot => cursorMoved(plot, latest.current, host)],
    },
  }
}

const axisFont = '11px system-ui, sans-serif'

function timeAxis(): uPlot.Axis {
  return {
    stroke: () => colour('muted'),
    font: axisFont,
    size: 22,
    gap: 4,
    space: 70,
    grid: { show: false },
    ticks: { show: false },
    values: (_, splits) => splits.map(seconds => time(seconds * 1000)),
  }
}

function valueAxis(latest: Latest): uPlot.Axis {
  return {
    stroke: () => colour('muted'),
    font: axisFont,
    size: 40,
    gap: 4,
    space: 34,
    grid: { stroke: () => colour('grid'), width: 1 },
    ticks: { show: false },
    values: (_, splits) => splits.map(value => latest.current.format(value)),
  }
}

/** Hatches the part of the chart that may still change. */
function drawProvisional(plot: uPlot, provisionalFrom: number): void {
  const { ctx, bbox } = plot
  const from = Math.max(bbox.left, plot.valToPos(provisionalFrom / 1000, 'x', true))
  const width = bbox.left + bbox.width - from
  if (width <= 0) return
  ctx.save()
  ctx.beginPath()
  ctx.rect(from, bbox.top, width, bbox.height)
  ctx.clip()
  ctx.fillStyle = colour('veil')
  ctx.fillRect(from, bbox.top, width, bbox.height)
  ctx.strokeStyle = colour('hatch')
  ctx.lineWidth = devicePixelRatio
  ctx.beginPath()
  const gap = 6 * devicePixelRatio
  for (let x = from - bbox.height; x < from + width; x += gap) {
    ctx.moveTo(x, bbox.top + bbox.height)
    ctx.lineTo(x + bbox.height, bbox.top)
  }
  ctx.stroke()
  ctx.restore()
}

function cursorMoved(plot: uPlot, props: ChartProps, host: HTMLElement): void {
  const index = (plot.cursor.left ?? -1) < 0 ? undefined : (plot.cursor.idx ?? undefined)
  const shown = index ?? props.times.length - 1
  host.setAttribute('aria-valuenow', String(shown))
  host.setAttribute('aria-valuetext', valueText(props, shown))
  props.onCursor?.(index)
}

function moveCursor(plot: uPlot, step: number): void {
  const times = plot.data[0]
  const from = (plot.cursor.left ?? -1) < 0 ? times.length : (plot.cursor.idx ?? 0)
  const index = Math.min(times.length - 1, Math.max(0, from + step))
  plot.setCursor({ left: plot.valToPos(times[index]!, 'x'), top: 1 })
}

function valueText({ times, lines, format, area }: ChartProps, index: number): string {
  const at = times[index]
  if (at === undefined) return 'no data'
  const values = lines.map(({ label, values }, line) => {
    const below = area && line > 0 ? (lines[line - 1]!.values[index] ?? 0) : 0
    const value = values[index]
    return `${label} ${value == null ? 'unknown' : format(value - below)}`
  })
  return `${time(at)}: ${values.join(', ')}`
}
