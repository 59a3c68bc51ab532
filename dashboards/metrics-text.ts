/** The few figures of `/metrics` that the page shows. */

export interface ServiceFigures {
  /** Event time of the newest record read, epoch ms; undefined while none was. */
  readonly newestEventMs: number | undefined
  /** Records not processed yet. */
  readonly backlog: number
  readonly late: number
  /** All records taken out of the flow, late ones among them. */
  readonly dropped: number
  /** Dead letters that are neither replayed nor discarded; undefined before they are counted. */
  readonly openLetters: number | undefined
  /** Late records by step; a view's step has its name. */
  readonly lateByStep: ReadonlyMap<string, number>
}

const sampleLine = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/
const labelPair = /(\w+)="((?:[^"\\]|\\.)*)"/g

/** Reads OpenMetrics text. */
export function figuresOf(text: string): ServiceFigures {
  let newestEventMs: number | undefined
  let backlog = 0
  let late = 0
  let dropped = 0
  let openLetters: number | undefined
  const lateByStep = new Map<string, number>()
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : sampleLine.exec(line)
    if (match === null) continue
    const [, name, labelText = '', valueText] = match
    const value = Number(valueText)
    if (name === 'stream_time_ms') newestEventMs = Math.max(newestEventMs ?? 0, value)
    if (name === 'records_lag') backlog += value
    if (name === 'dead_letters_open') openLetters = (openLetters ?? 0) + value
    if (name !== 'dropped_records_total') continue
    dropped += value
    const labels = new Map([...labelText.matchAll(labelPair)].map(([, key, text]) => [key, text]))
    if (labels.get('reason') !== 'late') continue
    late += value
    const step = labels.get('step') ?? ''
    lateByStep.set(step, (lateByStep.get(step) ?? 0) + value)
  }
  return { newestEventMs, backlog, late, dropped, openLetters, lateByStep }
}
