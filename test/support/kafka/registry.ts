/** A real schema registry for tests: Apicurio, in memory, with Confluent's API. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { keepablePort } from '../ports.ts'
import { type Print, registryJar } from './jars.ts'
import { JavaProcess } from './java-process.ts'

const READY_MS_MAX = 180_000

export interface RegistryOptions {
  /** Default: a free one. */
  readonly port?: number
  /** Default: standard error. */
  readonly print?: Print
}

export interface RegistryUnderTest {
  /** Base of the Confluent-compatible API: `${url}/subjects` and so on. */
  readonly url: string
  readonly pid: number
  /** Ends it; what it held is gone. */
  stop(): Promise<void>
}

/** Starts the registry and resolves when it answers. */
export async function startRegistry(options: RegistryOptions = {}): Promise<RegistryUnderTest> {
  const print = options.print ?? (line => process.stderr.write(`${line}\n`))
  const jar = await registryJar(print)
  const startedMs = performance.now()
  const port = options.port ?? (await keepablePort())
  const folder = mkdtempSync(join(tmpdir(), 'millrace-registry-'))
  const outputFile = join(folder, 'output.txt')
  const java = new JavaProcess({
    args: [
      '-Xmx384m',
      '-XX:+UseSerialGC',
      '-XX:TieredStopAtLevel=1',
      `-Dquarkus.http.port=${port}`,
      '-Dquarkus.http.host=127.0.0.1',
      '-jar',
      jar,
    ],
    outputFile,
    folderOfOrphan: folder,
  })
  const url = `http://127.0.0.1:${port}/apis/ccompat/v7`
  const stop = async () => {
    await java.kill()
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
  const untilMs = startedMs + READY_MS_MAX
  while (!(await answers(`${url}/subjects`))) {
    if (java.running && performance.now() < untilMs) {
      await sleep(100)
      continue
    }
    const output = readFileSync(outputFile, 'utf8').split('\n').slice(-30).join('\n')
    await stop()
    throw new Error(`The registry did not start: ${await java.exited}.\n${output}`)
  }
  const elapsedS = ((performance.now() - startedMs) / 1000).toFixed(1)
  print(`registry: ready at ${url} after ${elapsedS} s`)
  return { url, pid: java.pid, stop }
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5000) })
    await response.arrayBuffer()
    return response.ok
  } catch {
    return false
  }
}
