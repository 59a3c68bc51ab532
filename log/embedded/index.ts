/** The embedded log, `millrace/embedded`. */
export { type EmbeddedLog, type EmbeddedLogOptions, openEmbeddedLog } from './log.ts'
export type { MaintenanceReport } from './maintenance.ts'
