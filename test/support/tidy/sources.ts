/** The files that tidy judges, and their syntax trees. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseSync } from 'vite'
import { root } from '../processes.ts'

/** A broken rule. `size` is the measured length where the rule limits one, otherwise 1. */
export interface Violation {
  readonly rule: string
  readonly path: string
  readonly line: number
  readonly detail: string
  readonly size: number
}

export interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

export interface Comment {
  readonly type: 'Line' | 'Block'
  readonly value: string
  readonly start: number
  readonly end: number
}

/** A text file; `program` and `comments` are empty where it is not code. */
export interface Source {
  readonly path: string
  readonly text: string
  readonly lines: readonly string[]
  readonly program: Node | undefined
  readonly comments: readonly Comment[]
}

export function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as Node).type === 'string'
}

/** Calls `visit` for each node, parents first; `ancestors` ends with the parent. */
export function walk(
  node: Node,
  visit: (node: Node, ancestors: readonly Node[]) => void,
  ancestors: Node[] = [],
): void {
  visit(node, ancestors)
  ancestors.push(node)
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (isNode(child)) walk(child, visit, ancestors)
    }
  }
  ancestors.pop()
}

/** Line of a place in the text, from 1. */
export function lineOf(source: Source, position: number): number {
  return source.text.slice(0, position).split('\n').length
}

export function violation(source: Source, rule: string, place: number, detail: string): Violation {
  return { rule, path: source.path, line: lineOf(source, place), detail, size: 1 }
}

export function parseSource(path: string, text: string): Source {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  if (!/\.tsx?$/.test(path)) return { path, text, lines, program: undefined, comments: [] }
  const { program, comments, errors } = parseSync(path, text)
  if (errors.length > 0) throw new Error(`${path}: ${errors[0].message}`)
  return { path, text, lines, program: program as unknown as Node, comments }
}

const binary = /\.(png|jpg|ico|gz|zst|bin|batch|woff2?)$/

/** Tracked files and those that would be, so that a new file is judged before its commit. */
export function projectPaths(): readonly string[] {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const output = execFileSync('git', args, { cwd: root, encoding: 'utf8' })
  const paths = [...new Set(output.split('\0').filter(path => path !== ''))].sort()
  return paths.filter(path => existsSync(join(root, path)))
}

export function projectSources(): readonly Source[] {
  return projectPaths()
    .filter(path => !binary.test(path) && !path.startsWith('test/data/'))
    .map(path => parseSource(path, readFileSync(join(root, path), 'utf8')))
}

export function isCode(source: Source): boolean {
  return source.program !== undefined && !source.path.endsWith('.d.ts')
}
