/** The order services: each an application of its own, choreographed by events alone. */
import type { Topology } from '../../streams/index.ts'
import { fraudTopology } from './fraud.ts'
import { fulfilmentTopology } from './fulfilment.ts'
import { inventoryTopology } from './inventory.ts'
import { notificationTopology } from './notification.ts'
import { orchestratorTopology } from './orchestrator.ts'
import { orderTopology } from './order.ts'
import { paymentTopology } from './payment.ts'
import { referenceTopology } from './reference.ts'
import { searchTopology } from './search.ts'
import { defaultServiceSettings, type ServiceSettings } from './settings.ts'

/** The first four carry an order through; the others listen, and nobody waits for them. */
const services = [
  paymentTopology,
  inventoryTopology,
  fulfilmentTopology,
  orderTopology,
  notificationTopology,
  fraudTopology,
  searchTopology,
  referenceTopology,
]

/** A topology a service; settings that are not given are the defaults. */
export function serviceTopologies(settings: Partial<ServiceSettings> = {}): Topology[] {
  const all = { ...defaultServiceSettings, ...settings }
  const wanted = all.saga === 'orchestrated' ? [...services, orchestratorTopology] : services
  return wanted.map(service => service(all))
}
