/**
 * Runs a program of the benches as `cli/main.ts` runs the command: what Node makes of the code is
 * kept for the next start. Arguments: the program's file, then its own.
 */
import { enableCompileCache, flushCompileCache } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './report.ts'

/** The code is loaded by then; who is killed writes nothing at its end. */
const LOADED_MS = 1_500

enableCompileCache(join(root, 'node_modules/.cache/millrace/bench'))
setTimeout(flushCompileCache, LOADED_MS).unref()
const [file] = process.argv.splice(2, 1)
await import(pathToFileURL(file!).href)
