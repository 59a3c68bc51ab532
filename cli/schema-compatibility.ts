/** `SCHEMA_COMPATIBILITY`: one rule for all subjects, or rules of some of them. */
import type { EventType } from '../contracts/events.ts'
import { type Compatibility, compatibilities, subjectOf } from '../contracts/schema-registry.ts'
import { eventSchemas } from '../contracts/schemas.ts'
import { isEventType } from '../contracts/topics.ts'

const subjects = new Map(
  Object.entries(eventSchemas).map(([type, schema]) => [subjectOf(schema), type as EventType]),
)

/** `FULL`, or `BACKWARD,OrderCreated:FULL`: what is named last holds. */
export function parseCompatibility(text: string): (type: EventType) => Compatibility {
  let all: Compatibility = 'BACKWARD'
  const own = new Map<EventType, Compatibility>()
  for (const part of text === '' ? [] : text.split(',')) {
    const colon = part.lastIndexOf(':')
    const rule = ruleOf(part.slice(colon + 1).trim())
    if (colon < 0) all = rule
    else own.set(typeOf(part.slice(0, colon).trim()), rule)
  }
  return type => own.get(type) ?? all
}

function ruleOf(text: string): Compatibility {
  const rule = compatibilities.find(one => one === text.toUpperCase())
  if (rule !== undefined) return rule
  throw new Error(`${compatibilities.join(', ')}, or SUBJECT:RULE, comma separated`)
}

function typeOf(name: string): EventType {
  const type = isEventType(name) ? name : subjects.get(name)
  if (type !== undefined) return type
  throw new Error(`subjects such as ${[...subjects.keys()][0]}, or names of events`)
}
