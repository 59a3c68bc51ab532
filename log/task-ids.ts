/** Comparing assignments: what a member holds against what it should hold. */
import type { Assignment, TaskIds } from './membership.ts'

const roles = ['active', 'standby', 'warmup'] as const

/** `active/orders/3` and the like: each role of each task once. */
export function taskNames(assignment: Assignment): string[] {
  return roles.flatMap(role =>
    Object.entries(assignment[role]).flatMap(([subTopology, partitions]) =>
      partitions.map(partition => `${role}/${subTopology}/${partition}`),
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
