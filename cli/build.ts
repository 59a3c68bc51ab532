/**
 * `npm run build`: the npm package's `dist/`, laid out like the checkout so that relative paths
 * hold in both. The checkout itself runs its .ts files and needs none of this.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = join(import.meta.dirname, '..')
const published = 'streams,log,state,contracts,api,client,processors,cli'

function run(file: string, args: readonly string[]): void {
  const { status, error } = spawnSync(process.execPath, [file, ...args], {
    cwd: root,
    stdio: 'inherit',
  })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

rmSync(join(root, 'dist'), { recursive: true, force: true })
run('node_modules/typescript/bin/tsc', ['--project', 'tsconfig.build.json'])

// Schemas and other data that the code reads beside itself.
for (const path of globSync(`{${published}}/**/*.{json,avsc}`, { cwd: root })) {
  const target = join(root, 'dist', path)
  mkdirSync(dirname(target), { recursive: true })
  cpSync(join(root, path), target)
}

if (existsSync(join(root, 'dashboards/build.ts'))) {
  run('dashboards/build.ts', [])
  const pages = join(root, 'dashboards/dist')
  if (existsSync(pages)) cpSync(pages, join(root, 'dist/dashboards/dist'), { recursive: true })
}
