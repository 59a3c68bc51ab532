/** Where the package is, in the checkout (`cli/`) and in the published package (`dist/cli/`). */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const above = join(import.meta.dirname, '..')
/** The folder that holds `api/`, `dashboards/` and the other folders of this code. */
export const codeRoot = above

export const packagePath = [join(above, 'package.json'), join(above, '..', 'package.json')].find(
  existsSync,
)!

export function packageVersion(): string {
  return JSON.parse(readFileSync(packagePath, 'utf8')).version
}
