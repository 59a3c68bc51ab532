/** The house rules, over every file of the project. That each can fail: tidy-rules.test.ts. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { catalogueRows, comparePage, pagePath } from './support/errors-page.ts'
import { eventsPagePath, renderEventsPage } from './support/events-page.ts'
import { root } from './support/processes.ts'
import {
  checkColumns,
  checkEffects,
  checkHeader,
  checkSizes,
  checkTypes,
} from './support/tidy/code.ts'
import { judge } from './support/tidy/exceptions.ts'
import { checkImports } from './support/tidy/imports.ts'
import { projectPaths, projectSources } from './support/tidy/sources.ts'
import {
  checkCommands,
  checkMarkdown,
  checkPath,
  checkPlaces,
  checkWords,
} from './support/tidy/text.ts'

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const scripts = new Set(Object.keys(manifest.scripts))
const paths = new Set(projectPaths())
const sources = projectSources()

const violations = sources.flatMap(source => [
  ...checkImports(source),
  ...checkEffects(source),
  ...checkTypes(source),
  ...checkSizes(source),
  ...checkColumns(source),
  ...checkHeader(source),
  ...checkWords(source),
  ...checkPlaces(source),
  ...checkPath(source),
  ...checkMarkdown(source, paths),
  ...(source.path === 'README.md' ? checkCommands(source, scripts, paths) : []),
])
const complaints = judge(violations)

const facts: readonly (readonly [string, string])[] = [
  ['imports', 'a folder imports only what the architecture lets it'],
  ['effects', 'clock, randomness, timers and environment are arguments below cli/'],
  ['any', 'no type is any'],
  ['default export', 'exports are named'],
  ['unchecked', 'no check is switched off without a reason'],
  ['file lines', 'files stay short'],
  ['function lines', 'functions stay short'],
  ['parameters', 'more than four parameters are an options object'],
  ['columns', 'lines have at most 100 columns'],
  ['header', 'operators and topologies begin with their five rows'],
  ['words', 'no unfinished work and no banned words'],
  ['places', 'no machine path and no registry host is written down'],
  ['path', 'folders and files are named as the layout wants'],
  ['title', 'a page has one title'],
  ['link', 'links lead to files that exist'],
  ['command', 'the commands of the README exist'],
]

test.each(facts)('%s: %s', rule => {
  const broken = complaints.filter(complaint => complaint.rule === rule)
  expect(broken.map(complaint => complaint.text)).toEqual([])
})

test('every rule is reported by a fact, and there is something to judge', () => {
  const known = new Set(facts.map(([rule]) => rule))
  expect(complaints.filter(complaint => !known.has(complaint.rule))).toEqual([])
  expect(sources.length).toBeGreaterThan(30)
})

test('docs/ERRORS.md and the catalogues hold the same rows (npm run docs:errors)', async () => {
  const rows = await catalogueRows()
  expect(rows.length).toBeGreaterThan(0)
  expect(comparePage(readFileSync(pagePath, 'utf8'), rows)).toEqual([])
})

test('docs/EVENTS.md is what schemas and topologies say (npm run docs:events)', () => {
  expect(readFileSync(eventsPagePath, 'utf8')).toBe(renderEventsPage())
})

test('dependencies are pinned exactly', () => {
  const all = { ...manifest.dependencies, ...manifest.devDependencies }
  const loose = Object.entries(all).filter(([, range]) => !/^\d+\.\d+\.\d+\S*$/.test(String(range)))
  expect(loose).toEqual([])
})
