/**
 * The views of several applications as one `ViewService`: each is asked of the application that
 * has it. Names are unique across them (`checkApplications`). A position is what all of them cover;
 * each application shows a cut of its own (law 17).
 */
import { streamsError } from './errors.ts'
import { decodePosition, encodePosition, leastOffsets } from './position.ts'
import type {
  ApplicationTask,
  MetricSample,
  PartViews,
  RowAnswer,
  RowQuery,
  RowsPage,
  RowsQuery,
  RowsScope,
  ViewDeclaration,
  ViewService,
  ViewSubscription,
  ViewUpdate,
  Waiting,
} from './views.ts'

/** One service is itself; the order of several is that of their views. */
export function composeViews(services: readonly ViewService[], incarnation: string): ViewService {
  const [first] = services
  return services.length === 1 ? first! : new ComposedViews(services, incarnation)
}

class ComposedViews implements ViewService {
  readonly local: PartViews
  readonly #services: readonly ViewService[]
  readonly #incarnation: string
  readonly #owners = new Map<string, ViewService>()

  constructor(services: readonly ViewService[], incarnation: string) {
    this.#services = services
    this.#incarnation = incarnation
    for (const service of services) {
      for (const { name } of service.views()) this.#owners.set(name, service)
    }
    const local = (view: string): PartViews => this.#owner(view).local
    this.local = {
      rows: async (view, query) => local(view).rows(view, query),
      row: async (view, query) => local(view).row(view, query),
      follow: (view, onUpdate) => local(view).follow(view, onUpdate),
    }
  }

  /** Throws VIEW_UNKNOWN. */
  #owner(view: string): ViewService {
    const owner = this.#owners.get(view)
    if (owner === undefined) throw streamsError('VIEW_UNKNOWN', { view })
    return owner
  }

  views(): readonly ViewDeclaration[] {
    return this.#services.flatMap(service => service.views())
  }

  async rows(view: string, query: RowsQuery): Promise<RowsPage> {
    return this.#owner(view).rows(view, query)
  }

  async row(view: string, key: string, query?: RowQuery): Promise<RowAnswer> {
    return this.#owner(view).row(view, key, query)
  }

  async ready(view: string, waiting: Waiting): Promise<void> {
    return this.#owner(view).ready(view, waiting)
  }

  subscribe(
    view: string,
    onUpdate: (update: ViewUpdate) => void,
    scope?: RowsScope | null,
  ): ViewSubscription {
    return this.#owner(view).subscribe(view, onUpdate, scope)
  }

  /** Applications that have stopped or given up show nothing, and hold nobody up. */
  get #showing(): readonly ViewService[] {
    const isOver = ({ state }: ApplicationTask) => state === 'stopped' || state === 'failed'
    return this.#services.filter(service => !service.tasks().every(isOver))
  }

  position(): string {
    const all = this.#showing.map(service => decodePosition(service.position()).offsets)
    return encodePosition({ incarnation: this.#incarnation, offsets: leastOffsets(all) })
  }

  async waitFor(position: string, timeoutMs: number): Promise<boolean> {
    const waits = this.#showing.map(service => service.waitFor(position, timeoutMs))
    return (await Promise.all(waits)).every(covered => covered)
  }

  tasks(): readonly ApplicationTask[] {
    return this.#services.flatMap(service => service.tasks())
  }

  metrics(): readonly MetricSample[] {
    return this.#services.flatMap(service => service.metrics())
  }
}
