/** The checks of the npm package: built, packed once, then judged and used from the tarball. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './processes.ts'

export interface PackageStep {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
}

/** In order; each needs the one before. `scratch` is a folder that the caller removes. */
export function packageSteps(scratch: string): readonly PackageStep[] {
  const { name, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const tarball = join(scratch, `${name}-${version}.tgz`)
  const pack = ['pack', '--ignore-scripts', '--pack-destination', scratch]
  return [
    { name: 'package: build', command: process.execPath, args: ['cli/build.ts'] },
    { name: 'package: npm pack', command: 'npm', args: pack },
    { name: 'package: publint', command: 'publint', args: ['run', tarball, '--strict'] },
    {
      name: 'package: types',
      command: 'attw',
      args: [tarball, '--profile', 'esm-only', '--no-emoji'],
    },
    {
      name: 'package: use',
      command: process.execPath,
      args: ['test/support/use-package.ts', tarball, scratch],
    },
  ]
}
