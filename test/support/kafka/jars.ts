/**
 * Java programs of the tests, fetched by Maven (with the user's own settings, so a mirror is
 * honoured) and kept in `node_modules/.cache/millrace`.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { findJava, findMaven } from '../java.ts'
import { childEnvironment, root } from '../processes.ts'

export type Print = (line: string) => void

const here = import.meta.dirname
const cacheDir = join(root, 'node_modules/.cache/millrace')
const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1'
/** Release of Apicurio that is fetched. */
export const registryVersion = '2.6.13.Final'

/** Release of Apache Kafka that `pom.xml` names. */
export const kafkaVersion = /<artifactId>kafka_2\.13<\/artifactId>\s*<version>([^<]+)</.exec(
  readFileSync(join(here, 'pom.xml'), 'utf8'),
)![1]!

interface Download {
  readonly name: string
  readonly folder: string
  readonly mavenArgs: (target: string) => readonly string[]
}

/** Holds Kafka's jars. */
export const kafkaFolder = join(cacheDir, `kafka-${kafkaVersion}`)

const kafkaDownload: Download = {
  name: `Apache Kafka ${kafkaVersion}`,
  folder: kafkaFolder,
  mavenArgs: target => [
    `${plugin}:copy-dependencies`,
    `--file=${join(here, 'pom.xml')}`,
    `-DoutputDirectory=${target}`,
    '-DincludeScope=runtime',
  ],
}

const registryDownload: Download = {
  name: `Apicurio Registry ${registryVersion}`,
  folder: join(cacheDir, `registry-${registryVersion}`),
  mavenArgs: target => [
    `${plugin}:unpack`,
    `-Dartifact=io.apicurio:apicurio-registry-app:${registryVersion}:tar.gz:all`,
    `-DoutputDirectory=${target}`,
  ],
}

/** What is missing to run Kafka here, in a sentence; undefined when nothing is. */
export function whatIsMissing(): string | undefined {
  if (findJava() === undefined) return 'Java 17 or newer is missing: set JAVA_HOME or PATH.'
  const fetched = [kafkaDownload, registryDownload].every(one => existsSync(one.folder))
  if (!fetched && findMaven() === undefined) return 'Maven (mvn) is missing: it fetches Kafka.'
  return undefined
}

export function javaPath(): string {
  const java = findJava()
  if (java === undefined) throw new Error(whatIsMissing())
  return java
}

/** Fetches all that the tests run, so that no test waits for it. */
export async function fetchAll(print: Print): Promise<void> {
  await fetchOnce(kafkaDownload, print)
  await fetchOnce(registryDownload, print)
}

/** The class path of Kafka's broker and tools; fetches the jars the first time. */
export async function kafkaClassPath(print: Print): Promise<string> {
  await fetchOnce(kafkaDownload, print)
  return join(kafkaFolder, '*')
}

/** Path of the registry's jar; fetches it the first time. */
export async function registryJar(print: Print): Promise<string> {
  await fetchOnce(registryDownload, print)
  const jar = readdirSync(registryDownload.folder).find(name => name.endsWith('-runner.jar'))
  if (jar === undefined) throw new Error(`No runner jar in ${registryDownload.folder}: delete it.`)
  return join(registryDownload.folder, jar)
}

/** Fetches into a folder of its own, renamed when whole: several runs may fetch at once. */
async function fetchOnce(download: Download, print: Print): Promise<void> {
  if (existsSync(download.folder)) return
  const maven = findMaven()
  if (maven === undefined) throw new Error(whatIsMissing())
  mkdirSync(cacheDir, { recursive: true })
  const partial = `${download.folder}.${process.pid}.partial`
  print(`fetching ${download.name} with Maven; this is done once`)
  const output = await runMaven(maven, download.mavenArgs(partial), print)
  if (output !== undefined) {
    rmSync(partial, { recursive: true, force: true })
    throw new Error(`Maven could not fetch ${download.name}.\n${output}`)
  }
  try {
    renameSync(partial, download.folder)
  } catch (error) {
    rmSync(partial, { recursive: true, force: true })
    if (!existsSync(download.folder)) throw error
  }
}

/** Resolves with the end of Maven's output when it fails. */
function runMaven(
  maven: string,
  args: readonly string[],
  print: Print,
): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(maven, ['--batch-mode', ...args], {
      // Where Maven leaves its marks when it has no project.
      cwd: cacheDir,
      env: childEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const kept: string[] = []
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', line => {
        const fetched = /^Downloaded from \S+: \S*\/(\S+\.(?:jar|gz)) \((\S+ \S+) at/.exec(line)
        if (fetched !== null) print(`  ${fetched[1]} (${fetched[2]})`)
        else if (!/^Download(ing|ed) from|^Progress/.test(line)) kept.push(line)
        if (kept.length > 40) kept.shift()
      })
    }
    child.once('error', reject)
    child.once('close', code => resolve(code === 0 ? undefined : kept.join('\n')))
  })
}
