/** The service in this process, on the embedded log, without keys and without a word. */
import { pino } from 'pino'
import { noAuth } from '../../api/index.ts'
import { openService, type Service, type ServiceOptions } from '../../cli/service.ts'

export function openQuietService(
  options: Pick<ServiceOptions, 'dataDir' | 'topologies'> & Partial<ServiceOptions>,
): Promise<Service> {
  return openService({
    idleAfterMs: Number.POSITIVE_INFINITY,
    auth: noAuth,
    createTopics: true,
    logger: pino({ level: 'silent' }),
    ...options,
  })
}
