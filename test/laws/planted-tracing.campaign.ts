import { plantedCampaign } from './plant.ts'
import { plantedTracingBugs } from './planted-tracing.ts'

/** What tracing promises, each planted as a bug. */
export const campaign = plantedCampaign('planted-tracing', plantedTracingBugs)
