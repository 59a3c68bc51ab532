/** Rules on code: effects that must be arguments, sizes, names, headers. */
import {
  isCode,
  isNode,
  type Node,
  type Source,
  type Violation,
  violation,
  walk,
} from './sources.ts'

const pureFolders = /^(contracts|client|log|state|recording|streams|processors|api)\//

const bannedGlobals: Readonly<Record<string, string>> = {
  setTimeout: 'a scheduler is an argument',
  setInterval: 'a scheduler is an argument',
  setImmediate: 'a yield is an argument',
  performance: 'a clock is an argument',
  console: 'telemetry leaves by node:diagnostics_channel',
}
const bannedMembers: Readonly<Record<string, string>> = {
  'Date.now': 'a clock is an argument',
  'Math.random': 'randomness is an argument',
  'crypto.randomUUID': 'randomness is an argument',
  'crypto.randomBytes': 'randomness is an argument',
  'crypto.getRandomValues': 'randomness is an argument',
  'process.env': 'configuration is an argument',
  'process.hrtime': 'a clock is an argument',
  'process.uptime': 'a clock is an argument',
  'process.exit': 'only cli/ ends the process',
  'process.argv': 'configuration is an argument',
}

function nameOf(value: unknown): string | undefined {
  return isNode(value) && value.type === 'Identifier' ? String(value.name) : undefined
}

/** Names bound anywhere in the file: an injected `setTimeout` is not the global one. */
function boundNames(program: Node): ReadonlySet<string> {
  const names = new Set<string>()
  const bind = (pattern: unknown) => {
    if (!isNode(pattern)) return
    walk(pattern, (node, ancestors) => {
      const name = nameOf(node)
      const parent = ancestors.at(-1)
      const isKey = parent?.type === 'Property' && parent.key === node && !parent.shorthand
      if (name !== undefined && !isKey) names.add(name)
    })
  }
  walk(program, node => {
    for (const parameter of (node.params ?? []) as readonly unknown[]) bind(parameter)
    if (node.type === 'VariableDeclarator') bind(node.id)
    if (/Import\w*Specifier/.test(node.type)) bind(node.local)
  })
  return names
}

function isReference(node: Node, ancestors: readonly Node[]): boolean {
  const parent = ancestors.at(-1)
  if (parent === undefined || ancestors.some(one => one.type === 'TSTypeQuery')) return false
  if (parent.type === 'MemberExpression' && parent.property === node)
    return parent.computed === true
  if ('key' in parent && parent.key === node) return parent.computed === true
  return true
}

function memberName(node: Node): string | undefined {
  const property = node.property as Node | undefined
  const key = node.computed
    ? property?.type === 'Literal' && String(property.value)
    : nameOf(property)
  const object = node.object as Node
  const base =
    nameOf(object) ?? (object.type === 'MemberExpression' ? memberName(object) : undefined)
  return key && base !== undefined ? `${base}.${key}` : undefined
}

/** Clock, randomness, timers and environment below `cli/` are arguments. */
export function checkEffects(source: Source): readonly Violation[] {
  const { program, path } = source
  if (program === undefined || !pureFolders.test(path)) return []
  const found: Violation[] = []
  const bound = boundNames(program)
  const report = (node: Node, what: string, why: string) =>
    found.push(violation(source, 'effects', node.start, `${what}: ${why}`))
  walk(program, (node, ancestors) => {
    if (node.type === 'MemberExpression') {
      const full = memberName(node)?.replace(/^(globalThis|global|window)\./, '')
      if (full === undefined) return
      const isInType = ancestors.some(one => one.type === 'TSTypeQuery')
      const why = bannedMembers[full] ?? (isInType ? undefined : bannedGlobals[full])
      if (why !== undefined && !bound.has(full.split('.')[0])) report(node, full, why)
    } else if (node.type === 'NewExpression' || node.type === 'CallExpression') {
      const isDate = nameOf(node.callee) === 'Date' && !bound.has('Date')
      const hasArguments = (node.arguments as readonly unknown[]).length > 0
      if (isDate && (!hasArguments || node.type === 'CallExpression'))
        report(node, 'Date()', 'a clock is an argument')
    } else {
      const name = nameOf(node)
      if (name === undefined || bound.has(name) || !Object.hasOwn(bannedGlobals, name)) return
      if (isReference(node, ancestors)) report(node, name, bannedGlobals[name])
    }
  })
  return found
}

/** `any`, default exports and switched-off checks. */
export function checkTypes(source: Source): readonly Violation[] {
  const found: Violation[] = []
  if (source.program === undefined) return found
  const mayDefault = /\.(config|d)\.ts$/.test(source.path)
  walk(source.program, node => {
    if (node.type === 'TSAnyKeyword')
      found.push(violation(source, 'any', node.start, '`any`: use `unknown` and a decoder'))
    if (node.type === 'ExportDefaultDeclaration' && !mayDefault)
      found.push(violation(source, 'default export', node.start, 'exports are named'))
  })
  for (const comment of source.comments) {
    if (/^[\s*]*@ts-(ignore|nocheck)/.test(comment.value))
      found.push(
        violation(source, 'unchecked', comment.start, 'use @ts-expect-error with a reason'),
      )
  }
  return found
}

export const limits = { file: 400, testFile: 600, function: 70, columns: 100, parameters: 4 }

function functionName(node: Node, ancestors: readonly Node[]): string {
  const parent = ancestors.at(-1)
  const own = nameOf(node.id) ?? nameOf(parent?.key) ?? nameOf(parent?.id)
  return own ?? (parent?.type === 'CallExpression' ? `callback of ${nameOf(parent.callee)}` : '')
}

/** A block of tests is as long as its file. */
function isSuite(ancestors: readonly Node[]): boolean {
  const parent = ancestors.at(-1)
  if (parent?.type !== 'CallExpression') return false
  const callee = parent.callee as Node
  const names = [nameOf(callee), nameOf(callee.object), nameOf((callee.callee as Node)?.object)]
  return names.some(name => name === 'describe' || name === 'describeOnKafka')
}

const isFunction =
  /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression|TSDeclareFunction|TSMethodSignature|TSEmptyBodyFunctionExpression)$/

/** Lengths of files and functions, and numbers of parameters. */
export function checkSizes(source: Source): readonly Violation[] {
  const found: Violation[] = []
  if (source.program === undefined || !isCode(source)) return found
  const fileLimit = source.path.startsWith('test/') ? limits.testFile : limits.file
  const length = source.lines.length
  if (length > fileLimit) {
    const detail = `${length} lines, at most ${fileLimit}`
    found.push({ ...violation(source, 'file lines', 0, detail), size: length })
  }
  walk(source.program, (node, ancestors) => {
    if (!isFunction.test(node.type)) return
    const name = functionName(node, ancestors)
    const text = source.text.slice(node.start, node.end)
    const lines = text.split('\n').length
    // A shared suite is a block of tests too.
    const isShared = source.path.startsWith('test/') && name.endsWith('Suite')
    if (lines > limits.function && !isShared && !isSuite(ancestors)) {
      const detail = `${name} has ${lines} lines, at most ${limits.function}`
      found.push({ ...violation(source, 'function lines', node.start, detail), size: lines })
    }
    const parameters = (node.params as readonly Node[]).filter(one => nameOf(one) !== 'this').length
    if (parameters > limits.parameters) {
      const detail = `${name} has ${parameters} parameters, at most ${limits.parameters}`
      found.push({ ...violation(source, 'parameters', node.start, detail), size: parameters })
    }
  })
  return found
}

/** A string this long takes the line with it: formatters do not break strings. */
const longText = 60

/** Lines beyond the limit, unless one long string, template, pattern or page text is why. */
export function checkColumns(source: Source): readonly Violation[] {
  const { program } = source
  const found: Violation[] = []
  if (program === undefined) return found
  let start = 0
  for (const line of source.lines) {
    const columns = [...line].length
    const end = start + line.length
    if (columns > limits.columns) {
      let textColumns = 0
      walk(program, node => {
        if (!/^(Literal|TemplateLiteral|JSXText)$/.test(node.type)) return
        const overlap = Math.min(node.end, end) - Math.max(node.start, start)
        textColumns = Math.max(textColumns, overlap)
      })
      if (textColumns < longText) {
        const broken = violation(source, 'columns', start, `${columns} columns`)
        found.push({ ...broken, size: columns })
      }
    }
    start = end + 1
  }
  return found
}

const headerRows = ['in', 'time', 'state', 'out', 'late']

/** Operators and topologies say what they do in five rows, before any code. */
export function needsHeader(source: Source): boolean {
  if (/^streams\/operators\/[^/]+\.ts$/.test(source.path)) return true
  if (!/^processors\/.*\.ts$/.test(source.path) || source.program === undefined) return false
  return /^export (const|(async )?function) \w*[tT]opology\b/m.test(source.text)
}

export function checkHeader(source: Source): readonly Violation[] {
  if (!needsHeader(source)) return []
  const firstCode = (source.program?.body as readonly Node[] | undefined)?.[0]?.start ?? 0
  const header = source.comments.find(one => one.type === 'Block' && one.start <= firstCode)
  const lines = (header?.value ?? '').split('\n').map(line => line.replace(/^\s*\* ?/, ''))
  const rows = lines.flatMap(line => /^(in|time|state|out|late) {2,}\S/.exec(line)?.[1] ?? [])
  if (rows.join() === headerRows.join()) return []
  const detail = `the header has rows [${rows}], it needs [${headerRows}]`
  return [violation(source, 'header', 0, detail)]
}
