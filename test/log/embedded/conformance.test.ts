import { logConformance } from '../../conformance/log.ts'
import { openOnMemory, openOnRocks } from './environment.ts'

logConformance('embedded, in memory,', () => openOnMemory())
logConformance('embedded, in memory without a tail,', () => openOnMemory({ tailBytesMax: 0 }))
logConformance('embedded, on RocksDB,', () => openOnRocks({ tailBytesMax: 0 }))
