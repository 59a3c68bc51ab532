/** Rules on text and paths: words, machine paths, folders, markdown. */
import { posix } from 'node:path'
import { type Source, type Violation, violation } from './sources.ts'

/** Written in pieces, so that this file does not break its own rules. */
const bannedWords: readonly (readonly [RegExp, string])[] = [
  [new RegExp(`\\b${'FIX'}ME\\b`), 'mend it before it lands'],
  [new RegExp(`\\b${'XX'}X\\b`), 'mend it before it lands'],
  [new RegExp(`\\b${'HA'}CK\\b`), 'say why it is so'],
  [new RegExp(`\\b${'TO'}DO\\b(?!\\(#\\d+\\))`), 'name the issue, with its number in parentheses'],
  [new RegExp(`\\b${'black'}list`, 'i'), 'deny list'],
  [new RegExp(`\\b${'white'}list`, 'i'), 'allow list'],
  [new RegExp(`\\b${'util'}ize`, 'i'), 'use'],
]

const places: readonly (readonly [RegExp, string])[] = [
  [new RegExp(`(^|[\\s'"\`(=:])/(${'wo'}rk|${'ho'}me|${'Us'}ers|${'ro'}ot)/\\w`), 'a machine path'],
  [new RegExp(`[A-Z]:\\\\${'Us'}ers\\\\`), 'a machine path'],
  [/\bregistry\.(npmjs|yarnpkg)\b/i, 'a registry host'],
  [
    new RegExp(`\\b(repo1?\\.maven|${'deb'}\\.debian\\.org|pypi\\.org|proxy\\.golang)`),
    'a registry host',
  ],
  [new RegExp(`\\b(${'arti'}factory|${'verd'}accio)\\b`, 'i'), 'a registry host'],
]

function matches(source: Source, rule: string, patterns: typeof places): Violation[] {
  return patterns.flatMap(([pattern, why]) => {
    const everyMatch = new RegExp(pattern.source, `${pattern.flags}gm`)
    return [...source.text.matchAll(everyMatch)].map(match =>
      violation(source, rule, match.index, `'${match[0].trim()}': ${why}`),
    )
  })
}

export function checkWords(source: Source): readonly Violation[] {
  if (source.path === 'package-lock.json' || source.path === 'LICENSE') return []
  return matches(source, 'words', bannedWords)
}

export function checkPlaces(source: Source): readonly Violation[] {
  return matches(source, 'places', places)
}

const collectors = /^(src|utils?|common|helpers?|lib|libs|misc|shared)$/

/** Folder names, depth and file names. */
export function checkPath(source: Source): readonly Violation[] {
  const found: Violation[] = []
  const report = (detail: string) => found.push(violation(source, 'path', 0, detail))
  const folders = source.path.split('/').slice(0, -1)
  const file = source.path.split('/').at(-1) ?? ''
  for (const folder of folders.filter(one => collectors.test(one))) {
    report(`no folder is called ${folder}: name what is in it`)
  }
  const depthMax = /^(test|dashboards)\//.test(source.path) ? 3 : 2
  if (folders.length > depthMax) report(`${folders.length} folders deep, at most ${depthMax}`)
  if (/\.tsx?$/.test(file) && !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z]+)*\.tsx?$/.test(file)) {
    report(`${file}: file names are kebab-case`)
  }
  return found
}

/** Removes fenced code, keeping the lines. */
export function withoutFences(text: string): string {
  return text.replace(/^(```+).*$[\s\S]*?^\1\s*$/gm, block => block.replace(/[^\n]/g, ''))
}

/** One title; links to files that exist. */
export function checkMarkdown(source: Source, paths: ReadonlySet<string>): readonly Violation[] {
  if (!source.path.endsWith('.md')) return []
  const found: Violation[] = []
  const text = withoutFences(source.text)
  const titles = text.match(/^# \S.*$/gm)?.length ?? 0
  if (titles !== 1) found.push(violation(source, 'title', 0, `${titles} titles (# …), exactly one`))
  for (const match of text.matchAll(/\]\(([^)#\s]+)(#[^)]*)?\)/g)) {
    const target = match[1]
    if (/^[a-z]+:/.test(target)) continue
    const path = posix.join(posix.dirname(source.path), target).replace(/\/$/, '')
    const exists = paths.has(path) || [...paths].some(one => one.startsWith(`${path}/`))
    if (!exists) found.push(violation(source, 'link', match.index, `${target} does not exist`))
  }
  return found
}

/** Commands in fenced blocks that `package.json` or the tree does not have. */
export function checkCommands(
  source: Source,
  scripts: ReadonlySet<string>,
  paths: ReadonlySet<string>,
): readonly Violation[] {
  const found: Violation[] = []
  for (const block of source.text.matchAll(/^```(?:sh|bash|console)?\n([\s\S]*?)^```/gm)) {
    for (const match of block[1].matchAll(/\bnpm (?:run ([\w:-]+)|(start|test)\b)/g)) {
      const script = match[1] ?? match[2]
      if (scripts.has(script)) continue
      found.push(violation(source, 'command', block.index, `npm script ${script} does not exist`))
    }
    for (const match of block[1].matchAll(/\bnode ([\w./-]+\.ts)\b/g)) {
      if (paths.has(match[1])) continue
      found.push(violation(source, 'command', block.index, `${match[1]} does not exist`))
    }
  }
  return found
}
