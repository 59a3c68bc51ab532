/**
 * Files that break a rule, as `rule path` → how far: the measured length for lengths, the number
 * of violations otherwise. The list may only shrink: a file that is better than its number fails
 * until the number is lowered, and a new file gets none.
 */
import type { Violation } from './sources.ts'

export const exceptions: Readonly<Record<string, number>> = {}

const lengthRules = new Set(['file lines', 'function lines', 'parameters', 'columns'])

/** How far each file breaks each rule. */
function measure(violations: readonly Violation[]): ReadonlyMap<string, number> {
  const measured = new Map<string, number>()
  for (const { rule, path, size } of violations) {
    const key = `${rule} ${path}`
    const before = measured.get(key) ?? 0
    measured.set(key, lengthRules.has(rule) ? Math.max(before, size) : before + 1)
  }
  return measured
}

export interface Complaint {
  readonly rule: string
  readonly text: string
}

/** What is wrong after the exceptions, given the violations of all rules. */
export function judge(
  violations: readonly Violation[],
  allowed: Readonly<Record<string, number>> = exceptions,
): readonly Complaint[] {
  const measured = measure(violations)
  const complaints: Complaint[] = []
  for (const { rule, path, line, detail } of violations) {
    const key = `${rule} ${path}`
    if ((measured.get(key) ?? 0) <= (allowed[key] ?? 0)) continue
    complaints.push({ rule, text: `${path}:${line} ${detail}` })
  }
  for (const [key, size] of Object.entries(allowed)) {
    const now = measured.get(key) ?? 0
    const rule = key.slice(0, key.lastIndexOf(' '))
    if (now < size) complaints.push({ rule, text: `${key}: lower its exception to ${now}` })
  }
  return complaints
}
