/** One Kafka process, broker and controller in one. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Admin } from '@platformatic/kafka'
import { kafkaFolder } from './jars.ts'
import { JavaProcess } from './java-process.ts'
import { type NodeSettings, serverProperties } from './settings.ts'

export interface NodeOptions extends Omit<NodeSettings, 'dataDir'> {
  /** Holds the node's settings, data and logs. */
  readonly folder: string
  readonly folderOfOrphan: string | undefined
  readonly jvmFlags: readonly string[]
}

const READY_MS_MAX = 180_000
const READY_POLL_MS = 100

export class KafkaNode {
  readonly id: number
  readonly #options: NodeOptions
  readonly #files: Readonly<Record<'settings' | 'data' | 'output' | 'log', string>>
  #process: JavaProcess | undefined

  constructor(options: NodeOptions) {
    this.id = options.address.node
    this.#options = options
    const file = (name: string) => join(options.folder, name)
    this.#files = {
      settings: file('server.properties'),
      data: file('data'),
      output: file('output.txt'),
      log: file('server.log'),
    }
  }

  get running(): boolean {
    return this.#process?.running ?? false
  }

  get pid(): number | undefined {
    return this.running ? this.#process?.pid : undefined
  }

  /** Resolves when the process that runs now ends, with its exit code or signal. */
  async exited(): Promise<number | string | undefined> {
    return this.#process?.exited
  }

  host(listener: string): string {
    const port = this.#options.address.ports[listener]
    if (port === undefined) throw new Error(`There is no listener ${listener}.`)
    return `127.0.0.1:${port}`
  }

  /** Writes the settings, and formats the data folder unless an earlier run did. */
  async format(clusterId: string, flags: readonly string[]): Promise<void> {
    const { folder } = this.#options
    const { settings, data } = this.#files
    mkdirSync(folder, { recursive: true })
    writeFileSync(settings, serverProperties({ ...this.#options, dataDir: data }))
    if (existsSync(join(data, 'meta.properties'))) return
    const command = ['format', '--cluster-id', clusterId, '--config', settings, ...flags]
    const java = this.#java('kafka.tools.StorageTool', command)
    const code = await java.exited
    if (code !== 0) throw this.#failure(`could not format its data folder (${code})`)
  }

  start(): void {
    this.#process = this.#java('kafka.Kafka', [this.#files.settings])
  }

  /** Resolves when this broker answers and sees these brokers and a controller. */
  async ready(brokers: readonly number[]): Promise<void> {
    const untilMs = performance.now() + READY_MS_MAX
    let seen = 'nothing'
    while (performance.now() < untilMs) {
      if (!this.running) throw this.#failure(`ended with ${await this.#process?.exited}`)
      const view = await this.#clusterView()
      if (typeof view === 'string') seen = view
      else {
        seen = `brokers ${view.brokers.join()}, controller ${view.controller}`
        const complete = brokers.every(one => view.brokers.includes(one))
        if (complete && view.controller >= 0) return
      }
      await sleep(READY_POLL_MS)
    }
    throw this.#failure(`was not ready after ${READY_MS_MAX / 1000} s; it saw ${seen}`)
  }

  async stop(waitMsMax?: number): Promise<void> {
    // A paused process does not see SIGTERM before it goes on.
    this.signal('SIGCONT')
    if (this.running) await this.#process?.stop(waitMsMax)
  }

  async kill(): Promise<void> {
    await this.#process?.kill()
  }

  /**
   * Whether it has called a transaction ended, of an id that begins like this, without having
   * written all of its markers. It does so for partitions that have no leader: as all have none
   * while the only broker shuts down, or once the session of a killed one ends that has been
   * started again. To read_committed such partitions end there, or show what was aborted.
   */
  hasLostMarkers(ids: string): boolean {
    const { log } = this.#files
    if (!existsSync(log)) return false
    const lines = readFileSync(log, 'utf8').split('\n')
    return lines.some(line => {
      return line.includes("Couldn't find leader endpoint") && line.includes(`markers for ${ids}`)
    })
  }

  signal(name: NodeJS.Signals): void {
    this.#process?.signal(name)
  }

  #java(mainClass: string, args: readonly string[]): JavaProcess {
    const logging = join(import.meta.dirname, 'broker-log4j2.properties')
    return new JavaProcess({
      args: [
        ...this.#options.jvmFlags,
        `-Dlog4j2.configurationFile=${logging}`,
        `-Dmillrace.log=${this.#files.log}`,
        '-cp',
        join(kafkaFolder, '*'),
        mainClass,
        ...args,
      ],
      outputFile: this.#files.output,
      folderOfOrphan: this.#options.folderOfOrphan,
    })
  }

  /** The brokers that this one knows, or why it did not say. */
  async #clusterView(): Promise<{ brokers: number[]; controller: number } | string> {
    const admin = new Admin({
      bootstrapBrokers: [this.host('PLAINTEXT')],
      clientId: 'millrace-harness',
      connectTimeout: 1000,
      requestTimeout: 5000,
      retries: 0,
    })
    try {
      const { brokers, controllerId } = await admin.metadata({ topics: [] })
      return { brokers: [...brokers.keys()], controller: controllerId }
    } catch (error) {
      return String(error)
    } finally {
      await admin.close().catch(() => {})
    }
  }

  #failure(what: string): Error {
    const tails = [this.#files.output, this.#files.log].map(path => {
      const lines = existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : []
      return lines.slice(-30).join('\n')
    })
    const old = /UnsupportedClassVersionError/.test(tails[0]!) ? ' It needs Java 17 or newer.' : ''
    return new Error(`Kafka's node ${this.id} ${what}.${old}\n${tails.join('\n')}`)
  }
}
