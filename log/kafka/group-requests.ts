/** Requests to the coordinator of a group, wherever it is. */
import { type Cluster, isUnreachable } from './cluster.ts'
import { isTransient, kindOf } from './error-codes.ts'
import { Backoff } from './pause.ts'

/**
 * Sends again while the coordinator has moved, is away or says that it will pass, for as long as
 * a request may take. The answer's error is 0 or one that does not pass, unless time is up.
 */
export async function askGroup<Answer extends { readonly error: number }>(
  cluster: Cluster,
  group: string,
  send: (node: number) => Promise<Answer>,
): Promise<Answer> {
  const { environment, requestTimeoutMs } = cluster
  const untilMs = environment.clock() + requestTimeoutMs
  const backoff = new Backoff(environment)
  for (;;) {
    const isLate = environment.clock() >= untilMs
    try {
      const answer = await send(await cluster.coordinator('group', group))
      if (!isTransient(answer.error) || isLate) return answer
      if (kindOf(answer.error) === 'refresh') cluster.staleCoordinator('group', group)
    } catch (error) {
      if (!isUnreachable(error) || isLate) throw error
      cluster.staleCoordinator('group', group)
    }
    await backoff.wait()
  }
}
