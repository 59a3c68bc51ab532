/** Real Apache Kafka for tests: one broker or three, on free ports, with data in a folder. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { isFree, keepablePort } from '../ports.ts'
import { archiveFlags, ensureArchive } from './class-archive.ts'
import { kafkaClassPath, type Print } from './jars.ts'
import { KafkaNode } from './node.ts'
import type { BrokerSettings, NodeAddress } from './settings.ts'
import { runKafkaTool, type ToolOptions, type ToolResult } from './tool.ts'

export { quickCompaction, steady } from './settings.ts'
export { type ToolOptions, type ToolResult, toolClasses } from './tool.ts'

export interface KafkaOptions {
  readonly brokers?: 1 | 3
  /** Settings of `server.properties`, over the harness' own. */
  readonly config?: BrokerSettings
  /** Feature levels to format with, where the release's own are not wanted. */
  readonly features?: Readonly<Record<string, number>>
  /** Further listeners, name → protocol (`{ SASL: 'SASL_PLAINTEXT' }`); see `address`. */
  readonly listeners?: Readonly<Record<string, string>>
  /** Credentials at formatting: `SCRAM-SHA-256=[name=alice,password=secret]`. */
  readonly scram?: readonly string[]
  /** Folder to keep; without it a temporary one, deleted by `stop`. */
  readonly dataDir?: string
  /** Port of the first broker; the others take the next ones. Default: free ones. */
  readonly port?: number
  /** Flags of the Java machine; the default starts fast and uses at most 512 MB of heap. */
  readonly jvmFlags?: readonly string[]
  /** Default: standard error. */
  readonly print?: Print
}

const fastStart = ['-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']

/** Starts Kafka and resolves when every broker answers and knows the others. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaUnderTest> {
  const print = options.print ?? (line => process.stderr.write(`${line}\n`))
  await kafkaClassPath(print)
  await ensureArchive(async flags => {
    print('archiving the classes of Kafka for faster starts; this is done once')
    const kafka = await launch({ jvmFlags: [...fastStart, ...flags] })
    await kafka.stop(120_000)
  })
  const startedMs = performance.now()
  const jvmFlags = [...archiveFlags(), ...(options.jvmFlags ?? fastStart)]
  const kafka = await launch({ ...options, jvmFlags })
  const elapsedS = ((performance.now() - startedMs) / 1000).toFixed(1)
  print(`kafka: ready at ${kafka.bootstrap} after ${elapsedS} s`)
  return kafka
}

async function launch(options: KafkaOptions & Required<Pick<KafkaOptions, 'jvmFlags'>>) {
  const temporary = options.dataDir === undefined
  const folder = temporary
    ? mkdtempSync(join(tmpdir(), 'millrace-kafka-'))
    : resolve(options.dataDir)
  mkdirSync(folder, { recursive: true })
  const listeners = { PLAINTEXT: 'PLAINTEXT', ...options.listeners }
  const cluster = await addresses(options, Object.keys(listeners))
  const nodes = cluster.map(
    address =>
      new KafkaNode({
        address,
        cluster,
        listeners,
        folder: join(folder, `${address.node}`),
        folderOfOrphan: temporary ? folder : undefined,
        overrides: options.config ?? {},
        jvmFlags: options.jvmFlags,
      }),
  )
  const kafka = new KafkaUnderTest(nodes, folder, temporary)
  try {
    // A letter in front: an id that begins with a dash would be taken for an option.
    const clusterId = `M${randomBytes(16).toString('base64url').slice(1)}`
    const features = Object.entries(options.features ?? {}).map(pair => pair.join('='))
    const flags = [
      ...features.flatMap(one => ['--feature', one]),
      ...(options.scram ?? []).flatMap(one => ['--add-scram', one]),
    ]
    await Promise.all(nodes.map(node => node.format(clusterId, flags)))
    await kafka.restart()
  } catch (error) {
    await kafka.stop()
    throw error
  }
  return kafka
}

async function addresses(
  { brokers = 1, port }: KafkaOptions,
  listeners: readonly string[],
): Promise<readonly NodeAddress[]> {
  const cluster: NodeAddress[] = []
  for (let node = 1; node <= brokers; node++) {
    const ports: Record<string, number> = {}
    for (const name of listeners) ports[name] = await keepablePort()
    if (port !== undefined) ports.PLAINTEXT = port + node - 1
    if (!(await isFree(ports.PLAINTEXT!))) throw new Error(`Port ${ports.PLAINTEXT} is taken.`)
    cluster.push({ node, controllerPort: await keepablePort(), ports })
  }
  return cluster
}

/** Without `node`, each method means all brokers; they are numbered from 1. */
export class KafkaUnderTest {
  /** `127.0.0.1:PORT`, comma separated for three brokers. */
  readonly bootstrap: string
  readonly nodes: readonly KafkaNode[]
  /** Folder of the brokers' settings, data and logs. */
  readonly folder: string
  readonly #isTemporary: boolean

  constructor(nodes: readonly KafkaNode[], folder: string, isTemporary: boolean) {
    this.nodes = nodes
    this.bootstrap = nodes.map(node => node.host('PLAINTEXT')).join()
    this.folder = folder
    this.#isTemporary = isTemporary
  }

  /** `bootstrap` of another listener. */
  address(listener: string): string {
    return this.nodes.map(node => node.host(listener)).join()
  }

  /** Ends the brokers in order, by force after `waitMsMax`; deletes a temporary folder. */
  async stop(waitMsMax?: number): Promise<void> {
    await Promise.all(this.nodes.map(node => node.stop(waitMsMax)))
    this.#deleteFolder()
  }

  /** Ends the brokers at once; for good, unlike `kill`. */
  async destroy(): Promise<void> {
    await this.kill()
    this.#deleteFolder()
  }

  /** SIGKILL; the data stays, and `restart` takes it up. */
  async kill(node?: number): Promise<void> {
    await Promise.all(this.#chosen(node).map(one => one.kill()))
  }

  /** Starts what does not run, first ending in order what does: same data, same ports. */
  async restart(node?: number): Promise<void> {
    const chosen = this.#chosen(node)
    await Promise.all(chosen.map(one => one.stop()))
    for (const one of chosen) one.start()
    const running = this.nodes.filter(one => one.running).map(one => one.id)
    await Promise.all(chosen.map(one => one.ready(running)))
  }

  /** SIGSTOP: connections stay open and nothing answers. */
  pause(node?: number): void {
    for (const one of this.#chosen(node)) one.signal('SIGSTOP')
  }

  resume(node?: number): void {
    for (const one of this.#chosen(node)) one.signal('SIGCONT')
  }

  /** See `KafkaNode`. */
  hasLostMarkers(ids: string): boolean {
    return this.nodes.some(node => node.hasLostMarkers(ids))
  }

  /** Runs one of Kafka's command-line classes to its end. */
  tool(className: string, args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
    return runKafkaTool(className, args, options)
  }

  #chosen(node: number | undefined): readonly KafkaNode[] {
    if (node === undefined) return this.nodes
    const found = this.nodes.find(one => one.id === node)
    if (found === undefined) throw new Error(`There is no broker ${node}.`)
    return [found]
  }

  #deleteFolder(): void {
    if (!this.#isTemporary) return
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 })
  }
}
