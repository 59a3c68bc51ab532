/** The peers written in Java: built by Maven, and how they are started. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { findJava, findMaven } from '../test/support/java.ts'
import { javaPath, kafkaVersion, whatIsMissing } from '../test/support/kafka/jars.ts'
import { PARTITIONS } from './reference-input.ts'
import { Unusable } from './settings.ts'

const folder = join(import.meta.dirname, 'peers')

/**
 * The first heap is what Java takes of 24 GiB of memory by itself: a machine with more would give
 * it more, and its size in memory would be the machine's.
 */
const heap = ['-Xms384m', '-Xmx2g']

/** Stream threads in all: one a core, as far as there are partitions. */
export const peerThreads = Math.min(availableParallelism(), PARTITIONS)

/** Throws before anything else is done when it cannot be built here. */
export function requireJava(): void {
  const missing = whatIsMissing()
  if (missing !== undefined) throw new Unusable(missing)
  if (findMaven() === undefined) {
    throw new Unusable('Maven (mvn) is missing: it builds the Kafka Streams peer.')
  }
}

/** Says nothing of Maven's own unless it fails: it writes escape codes to a file, too. */
export function buildPeers(say: (text: string) => void): void {
  say('building the Kafka Streams peer')
  const args = ['--quiet', '--batch-mode', 'package']
  const { status, stdout, stderr } = spawnSync('mvn', args, { cwd: folder, encoding: 'utf8' })
  if (status !== 0) throw new Error(`The Kafka Streams peer cannot be built.\n${stdout}${stderr}`)
}

/** `tuning`: settings of Kafka Streams over its defaults. */
export function peerCommand(
  className: string,
  args: readonly string[],
  tuning: Readonly<Record<string, string>> = {},
): readonly [program: string, args: readonly string[]] {
  const classPath = `${folder}/target/reference.jar:${folder}/target/lib/*`
  const settings = Object.entries(tuning).map(([name, value]) => `-Dstreams.${name}=${value}`)
  return [javaPath(), [...heap, ...settings, '-cp', classPath, className, ...args]]
}

/** What a run with Java is to name beside the machine. */
export function peerVersions(): Record<string, string> {
  const pom = readFileSync(join(folder, 'pom.xml'), 'utf8')
  const streams = /<artifactId>kafka-streams<\/artifactId>\s*<version>([^<]+)</.exec(pom)
  const told = spawnSync(findJava() ?? 'java', ['-version'], { encoding: 'utf8' }).stderr ?? ''
  return {
    java: /version "([^"]+)"/.exec(told)?.[1] ?? 'unknown',
    kafka: kafkaVersion,
    kafkaStreams: streams?.[1] ?? 'unknown',
  }
}
