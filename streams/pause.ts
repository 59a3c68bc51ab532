/** A wait that a signal, or whoever has been told of it, ends early. */
import type { EngineEnvironment } from './environment.ts'

/** `onBegin` is given what ends the wait. */
export async function pause(
  schedule: EngineEnvironment['schedule'],
  delayMs: number,
  signal: AbortSignal,
  onBegin: (end: () => void) => void,
): Promise<void> {
  if (delayMs <= 0 || signal.aborted) return
  await new Promise<void>(resolve => {
    const end = () => {
      cancel()
      signal.removeEventListener('abort', end)
      resolve()
    }
    const cancel = schedule(end, delayMs)
    onBegin(end)
    signal.addEventListener('abort', end)
  })
}
