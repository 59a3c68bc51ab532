/** The system's Java and Maven, for tests against Apache Kafka. */
import { existsSync } from 'node:fs'
import { findExecutable } from './executables.ts'

/** Path of `java`: under `JAVA_HOME`, else the first on PATH. */
export function findJava(): string | undefined {
  const home = process.env.JAVA_HOME
  if (home && existsSync(`${home}/bin/java`)) return `${home}/bin/java`
  return findExecutable('java')
}

export function findMaven(): string | undefined {
  return findExecutable('mvn')
}
