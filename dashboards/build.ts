/** Builds the dashboard into `dashboards/dist`. Run it, or call it. */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'vite'

const root = dirname(fileURLToPath(import.meta.url))

/** Where the built pages are. */
export const dashboardFolder = join(root, 'dist')

export async function buildDashboard(outDir = dashboardFolder): Promise<string> {
  await build({
    root,
    base: './',
    configFile: false,
    logLevel: 'warn',
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    build: {
      outDir,
      emptyOutDir: true,
      target: 'es2023',
      // The page's policy allows files of its own origin only.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
    },
  })
  return outDir
}

if (import.meta.main) await buildDashboard()
