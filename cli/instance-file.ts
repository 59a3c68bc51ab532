/**
 * `instance.json` in a data folder: where the process that holds it is reached. A killed process
 * leaves it behind, so it is believed only while that process answers.
 */
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface Instance {
  readonly url: string
  readonly pid: number
}

const ANSWER_MS_MAX = 2000

function pathOf(dataDir: string): string {
  return join(dataDir, 'instance.json')
}

export async function writeInstance(dataDir: string, instance: Instance): Promise<void> {
  // Whole or not at all, for a reader at the same moment.
  const temporary = `${pathOf(dataDir)}.${instance.pid}`
  await writeFile(temporary, `${JSON.stringify(instance)}\n`)
  await rename(temporary, pathOf(dataDir))
}

export async function removeInstance(dataDir: string): Promise<void> {
  await rm(pathOf(dataDir), { force: true })
}

/** The instance that holds the folder, if one runs and answers. */
export async function findInstance(dataDir: string): Promise<Instance | undefined> {
  let instance: Partial<Instance>
  try {
    instance = JSON.parse(await readFile(pathOf(dataDir), 'utf8'))
  } catch {
    return undefined
  }
  const { url, pid } = instance
  if (typeof url !== 'string' || typeof pid !== 'number') return undefined
  try {
    process.kill(pid, 0)
    const answer = await fetch(`${url}/livez`, { signal: AbortSignal.timeout(ANSWER_MS_MAX) })
    await answer.body?.cancel()
    return answer.ok ? { url, pid } : undefined
  } catch {
    return undefined
  }
}
