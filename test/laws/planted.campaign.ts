import { plantedCampaign } from './plant.ts'
import { plantedBugs } from './planted.ts'

/** The laws of the engine. */
export const campaign = plantedCampaign('planted-laws', plantedBugs)
