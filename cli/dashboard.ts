/** The built dashboard, made when it is missing and can be made. */
import { spawn } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { join, sep } from 'node:path'
import { cliError } from './errors.ts'
import { codeRoot } from './version.ts'

/** The folder with the built pages; undefined where there are neither pages nor sources. */
export async function dashboardRoot(tell: (text: string) => void): Promise<string | undefined> {
  const root = join(codeRoot, 'dashboards/dist')
  if (existsSync(join(root, 'index.html'))) return root
  const build = join(codeRoot, 'dashboards/build.ts')
  if (!existsSync(build)) return undefined
  tell('building the dashboard, once')
  await run(build)
  return existsSync(join(root, 'index.html')) ? root : undefined
}

/** Whether a path below `root` is there and leads to nowhere outside of it. */
export function holdsPath(root: string): (path: string) => boolean {
  const base = realpathSync(root)
  return path => {
    try {
      const real = realpathSync(join(base, path))
      return real === base || real.startsWith(base + sep)
    } catch {
      return false
    }
  }
}

function run(script: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // Standard output is for the ready line alone.
    const stdio = ['ignore', 2, 2] as const
    const child = spawn(process.execPath, [script], { cwd: codeRoot, stdio: [...stdio] })
    const fail = (reason: string) => reject(cliError('DASHBOARD_BUILD_FAILED', { reason }))
    child.once('error', error => fail(error.message))
    child.once('exit', code => (code === 0 ? resolve() : fail(`the build ended with ${code}`)))
  })
}
