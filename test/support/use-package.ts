/**
 * Installs the packed tarball beside this checkout's dependencies and imports each entry point
 * that `exports` names: what the checkout resolves by luck, a user's project does not.
 */
import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { root } from './processes.ts'

const [tarball, scratch] = process.argv.slice(2)
if (tarball === undefined || scratch === undefined) throw new Error('usage: TARBALL SCRATCH')

const project = join(scratch, 'project')
const modules = join(project, 'node_modules')
mkdirSync(modules, { recursive: true })
execFileSync('tar', ['-xzf', tarball, '-C', project])
const manifest = JSON.parse(readFileSync(join(project, 'package/package.json'), 'utf8'))
renameSync(join(project, 'package'), join(modules, manifest.name))
const developmentOnly = new Set(Object.keys(manifest.devDependencies ?? {}))
for (const entry of readdirSync(join(root, 'node_modules'))) {
  if (entry.startsWith('.') || developmentOnly.has(entry) || entry === manifest.name) continue
  symlinkSync(join(root, 'node_modules', entry), join(modules, entry))
}

const entries = Object.entries(manifest.exports as Record<string, unknown>)
const lines = entries
  .filter(([, target]) => typeof target === 'object')
  .map(([path]) => {
    const specifier = join(manifest.name, path)
    return `if (Object.keys(await import('${specifier}')).length === 0) throw Error('${specifier}')`
  })
writeFileSync(join(project, 'use.mjs'), `${lines.join('\n')}\n`)
execFileSync(process.execPath, ['use.mjs'], { cwd: project, stdio: 'inherit' })
