import { plantedCampaign } from './plant.ts'
import { plantedOrderBugs } from './planted-orders.ts'

/** What commands, services and dead letters decide. */
export const campaign = plantedCampaign('planted-orders', plantedOrderBugs)
