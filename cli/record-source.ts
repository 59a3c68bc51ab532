/** What `millrace record` reads: Kafka, or a data folder at rest. */
import type { RecordSource } from '../recording/port.ts'
import { type KafkaAccess, type OpenLog, openBrokers, openFolder } from './log-access.ts'
import type { Settings } from './settings.ts'

export interface OpenSource {
  /** How it is called in messages. */
  readonly name: string
  readonly kind: 'kafka' | 'embedded'
  readonly source: RecordSource
  /** Nobody can add to it: it is recorded to its end. */
  readonly isAtRest: boolean
  close(): Promise<void>
}

/** Brokers named by flag or setting, otherwise the data folder. Rejects as these do. */
export async function openRecordSource(
  settings: KafkaAccess & Pick<Settings, 'dataDir'>,
  brokers: readonly string[] | undefined = settings.millraceBrokers,
): Promise<OpenSource> {
  if (brokers === undefined) return opened('embedded', await openFolder(settings.dataDir))
  return opened('kafka', await openBrokers(settings, brokers))
}

function opened(kind: OpenSource['kind'], { name, log, close }: OpenLog): OpenSource {
  return { name, kind, source: log, isAtRest: kind === 'embedded', close }
}
