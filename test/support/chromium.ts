/** The system's Chromium for tests of pages; none is downloaded. */
import type { Browser } from 'playwright-core'
import { findExecutable } from './executables.ts'

/** Path of Chromium or Chrome: `CHROMIUM_PATH`, else the first on PATH. */
export function findChromium(): string | undefined {
  const named = process.env.CHROMIUM_PATH
  if (named !== undefined && named !== '') return named
  return findExecutable('chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome')
}

/** A headless browser. The caller closes it. */
export async function launchChromium(): Promise<Browser> {
  const { chromium } = await import('playwright-core')
  const executablePath = findChromium()
  if (executablePath === undefined) throw new Error('Chromium is not installed.')
  // Containers run as root without user namespaces and with a tiny /dev/shm.
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
}
