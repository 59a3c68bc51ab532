/** Counts what a contender does, and what it takes: wall time and CPU of its process. */
export class Watch {
  records = 0
  bytes = 0
  #startedMs = Number.NaN
  #cpu = process.cpuUsage()
  #ms = Number.NaN

  start(): void {
    this.#cpu = process.cpuUsage()
    this.#startedMs = performance.now()
  }

  add(records: number, bytes: number): void {
    this.records += records
    this.bytes += bytes
  }

  stop(): void {
    this.#ms = performance.now() - this.#startedMs
    this.#cpu = process.cpuUsage(this.#cpu)
  }

  /** One line of JSON, a Count of `jobs.ts`. */
  tell(): void {
    const { records, bytes } = this
    const cpuUs = this.#cpu.user + this.#cpu.system
    process.stdout.write(`${JSON.stringify({ records, bytes, ms: this.#ms, cpuUs })}\n`)
  }
}
