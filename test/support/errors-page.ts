/**
 * `docs/ERRORS.md`, from the error catalogues: every export `…Catalogue` of a folder's
 * `errors.ts`. Run with `--write` (npm run docs:errors) to write the page anew; the list of
 * retired codes at its end is kept.
 */
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { ErrorRow } from '../../log/errors.ts'
import { root } from './processes.ts'

export interface CatalogueRow extends ErrorRow {
  readonly code: string
  readonly folder: string
}

export const pagePath = join(root, 'docs/ERRORS.md')
const retiredTitle = '## Retired codes'

/** All rows of the catalogues in the tree, by folder and then in the catalogue's order. */
export async function catalogueRows(): Promise<readonly CatalogueRow[]> {
  const rows: CatalogueRow[] = []
  const exclude = ['node_modules/**', 'dist/**', 'test/**']
  for (const path of globSync('**/errors.ts', { cwd: root, exclude }).sort()) {
    const module: Record<string, unknown> = await import(pathToFileURL(join(root, path)).href)
    const folder = path.slice(0, -'/errors.ts'.length)
    for (const name of Object.keys(module).filter(one => one.endsWith('Catalogue'))) {
      for (const [code, row] of Object.entries(module[name] as Record<string, ErrorRow>)) {
        rows.push({ ...row, code, folder })
      }
    }
  }
  return rows
}

function tableLine({ code, message, recovery, status }: CatalogueRow): string {
  return `| \`${code}\` | ${message.replaceAll('|', '\\|')} | ${recovery} | ${status} |`
}

const introduction = `# Errors

Every error that Millrace raises about the world has a code. Codes are stable: they appear in
problem+json answers (\`code\`), in dead letters and in logs, and are never reused. Words in braces
are replaced by that detail. \`npm run docs:errors\` writes this page from the \`errors.ts\` files, and
a test compares the two in both directions.

| the runtime then | which means |
| --- | --- |
| retry | tries again, with a growing pause |
| dead-letter | puts the record aside with its topic, partition, offset and reason, and goes on |
| restore | drops what is not committed and goes on from what is; damaged state is rebuilt from its changelog |
| rejoin | drops what is not committed and asks the group which tasks it still has |
| stop | stops with a message; a person has to act |
| reject | answers the caller, and nothing else changes |

Whatever of these is met in a record or a batch of an input makes a dead letter of it.
`

/** The page for these rows; `retired` is kept from the page before. */
export function renderPage(rows: readonly CatalogueRow[], retired: string): string {
  const folders = [...new Set(rows.map(row => row.folder))]
  const sections = folders.map(folder => {
    const lines = rows.filter(row => row.folder === folder).map(tableLine)
    const head = '| code | message | the runtime then | HTTP status |\n| --- | --- | --- | --- |'
    return `## ${folder}\n\n${head}\n${lines.join('\n')}\n`
  })
  return `${[introduction, ...sections].join('\n')}\n${retiredTitle}\n\n${retired.trim()}\n`
}

/** What the page says below the title of the retired codes. */
export function retiredPart(page: string): string {
  const start = page.indexOf(retiredTitle)
  return start < 0 ? 'None yet.' : page.slice(start + retiredTitle.length).trim()
}

/** Codes that the page lists, in its order, without the retired ones. */
export function pageCodes(page: string): readonly string[] {
  const live = page.split(retiredTitle)[0]
  return [...live.matchAll(/^\| `([A-Z_0-9]+)` \|/gm)].map(match => match[1])
}

/** What differs between the page and the catalogues, a line each. */
export function comparePage(page: string, rows: readonly CatalogueRow[]): readonly string[] {
  const problems: string[] = []
  const listed = new Set(pageCodes(page))
  const retired = retiredPart(page)
  const seen = new Map<string, string>()
  for (const row of rows) {
    const before = seen.get(row.code)
    if (before !== undefined) problems.push(`${row.code} is in ${before} and in ${row.folder}`)
    seen.set(row.code, row.folder)
    if (!listed.has(row.code)) problems.push(`${row.code} is not on the page`)
    else if (!page.includes(tableLine(row))) problems.push(`${row.code} differs on the page`)
    if (retired.includes(`\`${row.code}\``)) problems.push(`${row.code} is retired`)
  }
  for (const code of listed) if (!seen.has(code)) problems.push(`${code} is in no catalogue`)
  return problems
}

if (import.meta.main && process.argv.includes('--write')) {
  const before = readFileSync(pagePath, { encoding: 'utf8', flag: 'a+' })
  writeFileSync(pagePath, renderPage(await catalogueRows(), retiredPart(before)))
}
