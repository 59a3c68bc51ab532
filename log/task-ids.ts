/** Comparing assignments: what a member holds against what it should hold. */
import type { Assignment, TaskIds } from './membership.ts'

const roles = ['active', 'standby', 'warmup'] as const

function nameOf(role: string, subTopology: string, partition: number): string {
  return `${role}/${subTopology}/${partition}`
}

/** `active/orders/3` and the like: each role of each task once. */
export function taskNames(assignment: Assignment): string[] {
  return roles.flatMap(role =>
    Object.entries(assignment[role]).flatMap(([subTopology, partitions]) =>
      partitions.map(partition => nameOf(role, subTopology, partition)),
    ),
  )
}

export function countTasks(tasks: TaskIds): number {
  return Object.values(tasks).reduce((count, partitions) => count + partitions.length, 0)
}

export function hasTasks(assignment: Assignment): boolean {
  return roles.some(role => countTasks(assignment[role]) > 0)
}

/** Every task of `some`, in its role, is in `all` too. */
export function isWithin(some: Assignment, all: Assignment): boolean {
  const names = new Set(taskNames(all))
  return taskNames(some).every(name => names.has(name))
}

export function isSameAssignment(one: Assignment, other: Assignment): boolean {
  return isWithin(one, other) && isWithin(other, one)
}

/** The assignment without the tasks of these names. */
export function withoutTasks(assignment: Assignment, names: ReadonlySet<string>): Assignment {
  if (names.size === 0) return assignment
  const rest = (role: (typeof roles)[number]): TaskIds => {
    const left = Object.entries(assignment[role]).map(([subTopology, partitions]) => {
      const kept = partitions.filter(partition => !names.has(nameOf(role, subTopology, partition)))
      return [subTopology, kept] as const
    })
    return Object.fromEntries(left.filter(([, partitions]) => partitions.length > 0))
  }
  return { active: rest('active'), standby: rest('standby'), warmup: rest('warmup') }
}
