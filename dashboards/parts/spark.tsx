/** Small pictures beside a number that says the same: hidden from assistive technology. */

export interface SparkProps {
  readonly values: readonly (number | null)[]
  /** Values from here on may still change. */
  readonly provisionalFrom?: number
  readonly width?: number
  readonly height?: number
  readonly max?: number
  readonly min?: number
}

export function SparkLine({ values, provisionalFrom, ...rest }: SparkProps) {
  const { width = 120, height = 28 } = rest
  const known = values.filter(value => value !== null)
  const [low, high] = [Math.min(...known), Math.max(...known)]
  const max = rest.max ?? high
  const min = rest.min ?? Math.max(0, low - (high - low) / 2)
  const x = (index: number) => (index / Math.max(1, values.length - 1)) * width
  const y = (value: number) => height - 2 - ((value - min) / (max - min || 1)) * (height - 4)
  const path = (from: number, to: number) => {
    let text = ''
    for (let index = Math.max(0, from); index < Math.min(to, values.length); index++) {
      const value = values[index]
      if (value == null) continue
      text += `${text === '' ? 'M' : 'L'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`
    }
    return text
  }
  const split = provisionalFrom ?? values.length
  return (
    <svg
      class="spark"
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <path d={path(0, split)} />
      {split < values.length && <path class="provisional" d={path(split - 1, values.length)} />}
    </svg>
  )
}

export function SparkBars({ values, provisionalFrom, ...rest }: SparkProps) {
  const { width = 120, height = 28 } = rest
  const max = rest.max ?? Math.max(1, ...values.map(value => value ?? 0))
  const step = width / Math.max(1, values.length)
  return (
    <svg
      class="spark"
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      {values.map((value, index) => {
        const tall = Math.max(1, ((value ?? 0) / max) * height)
        const provisional = index >= (provisionalFrom ?? values.length)
        return (
          <rect
            key={index}
            class={provisional ? 'bar provisional' : 'bar'}
            x={index * step + 1}
            y={height - tall}
            width={Math.max(1, step - 2)}
            height={tall}
          />
        )
      })}
    </svg>
  )
}
