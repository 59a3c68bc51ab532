/**
 * Settings of a streams group: a configuration resource of its own (type 32) with the broker's
 * defaults and bounds. They outlive the group, may be set before it exists, and apply at once.
 */
import type { Cluster } from './cluster.ts'
import { ErrorCode, nameOf } from './error-codes.ts'
import { forbidden, kafkaError } from './errors.ts'
import { Backoff } from './pause.ts'
import { defineApi } from './wire.ts'

export interface GroupSettings {
  /** How long a member may be silent; a broker allows 45 to 60 s unless configured otherwise. */
  readonly sessionTimeoutMs: number
  /** A broker allows 5 to 15 s unless configured otherwise. */
  readonly heartbeatIntervalMs: number
  /** Copies of each task beside the active one; a broker allows 2 unless configured otherwise. */
  readonly standbyReplicas: number
  /** How long an empty group waits for more members before it places tasks. */
  readonly initialRebalanceDelayMs: number
}

const names: Readonly<Record<keyof GroupSettings, string>> = {
  sessionTimeoutMs: 'streams.session.timeout.ms',
  heartbeatIntervalMs: 'streams.heartbeat.interval.ms',
  standbyReplicas: 'streams.num.standby.replicas',
  initialRebalanceDelayMs: 'streams.initial.rebalance.delay.ms',
}

const settingKeys = Object.keys(names) as (keyof GroupSettings)[]

const GROUP_RESOURCE = 32
const SET = 0

interface SettingsOutcome {
  readonly error: number
  readonly message: string | null
}

/** IncrementalAlterConfigs v1, for one group. */
const alterGroupConfigs = defineApi<
  [group: string, configs: readonly (readonly [name: string, value: string])[]],
  SettingsOutcome
>({
  key: 44,
  version: 1,
  encode: (writer, group, configs) => {
    writer.structs([group], name => {
      writer.int8(GROUP_RESOURCE).string(name)
      writer.structs(configs, ([config, value]) => writer.string(config).int8(SET).string(value))
    })
    const VALIDATE_ONLY = false
    writer.boolean(VALIDATE_ONLY).tags()
  },
  decode: reader => {
    reader.int32() // throttle time
    const outcomes = reader.structs(() => {
      const outcome = { error: reader.int16(), message: reader.nullableString() }
      reader.int8() // resource type
      reader.string() // resource name
      return outcome
    })
    reader.tags()
    return outcomes.find(({ error }) => error !== 0) ?? { error: 0, message: null }
  },
})

const WRITING = { what: 'the settings', operation: 'AlterConfigs' }
const READING = { what: 'the description of the settings', operation: 'DescribeConfigs' }

interface DescribedConfigs extends SettingsOutcome {
  readonly values: ReadonlyMap<string, string | null>
}

/** DescribeConfigs v4, for one group: what is in force, the broker's defaults included. */
const describeGroupConfigs = defineApi<
  [group: string, names: readonly string[]],
  readonly DescribedConfigs[]
>({
  key: 32,
  version: 4,
  encode: (writer, group, wanted) => {
    writer.structs([group], name => {
      writer
        .int8(GROUP_RESOURCE)
        .string(name)
        .array(wanted, config => writer.string(config))
    })
    const SYNONYMS = false
    const DOCUMENTATION = false
    writer.boolean(SYNONYMS).boolean(DOCUMENTATION).tags()
  },
  decode: reader => {
    reader.int32() // throttle time
    const readValue = (): readonly [string, string | null] => {
      const entry = [reader.string(), reader.nullableString()] as const
      reader.boolean() // read only
      reader.int8() // source
      reader.boolean() // sensitive
      reader.structs(() => [reader.string(), reader.nullableString(), reader.int8()])
      reader.int8() // type
      reader.nullableString() // documentation
      return entry
    }
    const resources = reader.structs(() => {
      const outcome = { error: reader.int16(), message: reader.nullableString() }
      reader.int8() // resource type
      reader.string() // resource name
      return { ...outcome, values: new Map(reader.structs(readValue)) }
    })
    reader.tags()
    return resources
  },
})

function refusal(
  group: string,
  { what, operation }: { readonly what: string; readonly operation: string },
  { error, message }: SettingsOutcome,
): Error {
  const request = `${what} of group ${group}`
  const detail = message === null ? '' : `: ${message.replace(/\.$/, '')}`
  const refused = kafkaError('KAFKA_REFUSED', { request, error: nameOf(error), detail })
  return forbidden(request, error, [operation, group]) ?? refused
}

/** Sets those that are given. Rejects with KAFKA_REFUSED, naming the bound; then none is set. */
export async function configureGroup(
  cluster: Cluster,
  group: string,
  settings: Partial<GroupSettings>,
): Promise<void> {
  const configs = settingKeys
    .filter(key => settings[key] !== undefined)
    .map(key => [names[key], `${settings[key]}`] as const)
  if (configs.length === 0) return
  const outcome = await cluster.callAny('metadata', alterGroupConfigs, group, configs)
  if (outcome.error !== ErrorCode.NONE) throw refusal(group, WRITING, outcome)
}

/** Longer than a broker takes to learn of a setting that another one has stored. */
const APPLIED_MS_MAX = 10_000

/**
 * Sets those that are given, and resolves with what is in force once the broker tells these: for a
 * moment it answers what was before, and goes by it. Another instance that sets others at the same
 * time may win; the shorter session is believed then. Rejects with KAFKA_REFUSED, naming
 * the bound; then none is set.
 */
export async function applySettings(
  cluster: Cluster,
  group: string,
  settings: Partial<GroupSettings>,
): Promise<GroupSettings> {
  await configureGroup(cluster, group, settings)
  const { environment } = cluster
  const untilMs = environment.clock() + APPLIED_MS_MAX
  const backoff = new Backoff(environment)
  for (;;) {
    const found = await groupSettings(cluster, group)
    const isApplied = settingKeys.every(key => (settings[key] ?? found[key]) === found[key])
    if (isApplied) return found
    if (environment.clock() >= untilMs) {
      const { sessionTimeoutMs = found.sessionTimeoutMs } = settings
      return { ...found, sessionTimeoutMs: Math.min(sessionTimeoutMs, found.sessionTimeoutMs) }
    }
    await backoff.wait()
  }
}

/** What is in force for a group, whether it exists or not. */
export async function groupSettings(cluster: Cluster, group: string): Promise<GroupSettings> {
  const wanted = Object.values(names)
  const [found] = await cluster.callAny('metadata', describeGroupConfigs, group, wanted)
  const outcome = found ?? { error: ErrorCode.UNKNOWN_SERVER_ERROR, message: null, values: null }
  if (outcome.error !== ErrorCode.NONE || outcome.values === null) {
    throw refusal(group, READING, outcome)
  }
  const { values } = outcome
  const read = (key: keyof GroupSettings) => {
    const value = Number(values.get(names[key]) ?? Number.NaN)
    if (Number.isNaN(value)) {
      const what = { ...READING, what: names[key] }
      throw refusal(group, what, { error: ErrorCode.INVALID_CONFIG, message: 'no number' })
    }
    return value
  }
  return {
    sessionTimeoutMs: read('sessionTimeoutMs'),
    heartbeatIntervalMs: read('heartbeatIntervalMs'),
    standbyReplicas: read('standbyReplicas'),
    initialRebalanceDelayMs: read('initialRebalanceDelayMs'),
  }
}
