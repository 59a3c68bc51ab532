/** Making, removing and describing topics. */
import { defineApi } from './wire.ts'

export interface NewTopic {
  readonly name: string
  readonly partitions: number
  /** -1: the cluster's default. */
  readonly replicas: number
  readonly configs: Readonly<Record<string, string>>
}

export interface TopicOutcome {
  readonly error: number
  readonly message: string | null
}

const NOTHING: TopicOutcome = { error: -1, message: 'The broker did not say what became of it' }

/** CreateTopics v7, for one topic. */
export const createTopic = defineApi({
  key: 19,
  version: 7,
  encode: (writer, topic: NewTopic, timeoutMs: number) => {
    writer.structs([topic], ({ name, partitions, replicas, configs }) => {
      writer.string(name).int32(partitions).int16(replicas)
      writer.structs([], () => {}) // assignments by hand
      writer.structs(Object.entries(configs), ([key, value]) => {
        writer.string(key).nullableString(value)
      })
    })
    const VALIDATE_ONLY = false
    writer.int32(timeoutMs).boolean(VALIDATE_ONLY).tags()
  },
  decode: (reader): TopicOutcome => {
    reader.int32() // throttle time
    const [outcome = NOTHING] = reader.structs(() => {
      reader.string() // name
      reader.uuid()
      const error = reader.int16()
      const message = reader.nullableString()
      reader.int32() // partitions
      reader.int16() // replicas
      reader.nullableStructs(() => {
        reader.string()
        reader.nullableString()
        reader.boolean()
        reader.int8()
        reader.boolean()
      })
      return { error, message }
    })
    reader.tags()
    return outcome
  },
})

/** DeleteTopics v6, for one topic by name. */
export const deleteTopic = defineApi({
  key: 20,
  version: 6,
  encode: (writer, name: string, timeoutMs: number) => {
    writer.structs([name], one => writer.nullableString(one).uuid(null))
    writer.int32(timeoutMs).tags()
  },
  decode: (reader): TopicOutcome => {
    reader.int32() // throttle time
    const [outcome = NOTHING] = reader.structs(() => {
      reader.nullableString() // name
      reader.uuid()
      return { error: reader.int16(), message: reader.nullableString() }
    })
    reader.tags()
    return outcome
  },
})

export interface TopicSettings extends TopicOutcome {
  readonly name: string
  readonly settings: ReadonlyMap<string, string>
}

const TOPIC_RESOURCE = 2

/** DescribeConfigs v4: the settings asked for, of several topics. */
export const describeTopicConfigs = defineApi({
  key: 32,
  version: 4,
  encode: (writer, names: readonly string[], settings: readonly string[]) => {
    writer.structs(names, name => {
      writer.int8(TOPIC_RESOURCE).string(name)
      writer.array(settings, setting => writer.string(setting))
    })
    const SYNONYMS = false
    const DOCUMENTATION = false
    writer.boolean(SYNONYMS).boolean(DOCUMENTATION).tags()
  },
  decode: (reader): readonly TopicSettings[] => {
    reader.int32() // throttle time
    const readSetting = (): readonly [string, string] => {
      const name = reader.string()
      const value = reader.string()
      reader.boolean() // read only
      reader.int8() // source
      reader.boolean() // sensitive
      reader.structs(() => {
        reader.string()
        reader.nullableString()
        reader.int8()
      })
      reader.int8() // type
      reader.nullableString() // documentation
      return [name, value]
    }
    const topics = reader.structs(() => {
      const error = reader.int16()
      const message = reader.nullableString()
      reader.int8() // resource type
      const name = reader.string()
      return { error, message, name, settings: new Map(reader.structs(readSetting)) }
    })
    reader.tags()
    return topics
  },
})
