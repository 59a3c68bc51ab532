/**
 * The `millrace` command. What Node makes of the code is kept for the next start, which takes half
 * the time: it is most of what an instance needs to be back after a crash.
 */
import { enableCompileCache, flushCompileCache } from 'node:module'
import { dirname, join } from 'node:path'
import { packagePath } from './version.ts'

// Of this package alone: what lies in a folder that others may write to is not to be run.
enableCompileCache(join(dirname(packagePath), 'node_modules/.cache/millrace/code'))
const { runCommandLine } = await import('./command-line.ts')
// Now: a process that is killed writes nothing at its end.
flushCompileCache()

// A reader that went away (`| head`) is no failure.
process.stdout.on('error', error => {
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0)
  throw error
})

const code = await runCommandLine(process.argv.slice(2))
// What is left open (sockets of a client that hangs) must not hold the process.
process.stdout.write('', () => process.exit(code))
