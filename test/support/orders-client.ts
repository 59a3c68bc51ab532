/** Orders over HTTP, as a client of theirs asks. */
export interface Answer {
  readonly status: number
  /** As it came. */
  readonly text: string
  readonly body: Record<string, unknown>
  readonly headers: Headers
}

type Headed = Readonly<Record<string, string>>

export class OrdersClient {
  readonly #address: string
  readonly #headers: Headed

  constructor(address: string, headers: Headed = {}) {
    this.#address = address
    this.#headers = headers
  }

  async get(path: string, headers: Headed = {}): Promise<Answer> {
    return this.#ask(path, { headers: { ...this.#headers, ...headers } })
  }

  async post(path: string, body: unknown, headers: Headed = {}): Promise<Answer> {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const type = { 'content-type': 'application/json' }
    const all = { ...type, ...this.#headers, ...headers }
    return this.#ask(path, { method: 'POST', body: text, headers: all })
  }

  async #ask(path: string, init: RequestInit): Promise<Answer> {
    const response = await fetch(this.#address + path, init)
    const text = await response.text()
    return { status: response.status, text, body: JSON.parse(text), headers: response.headers }
  }
}

export const mug = { sku: 'mug', category: 'home', quantity: 2, unitPriceMinor: 500 }
export const placed = { customerId: 'ann', region: 'eu', currency: 'EUR', items: [mug] }

/** What a read waits for, so that it sees an answer's writes. */
export function seen({ headers }: Answer): Record<string, string> {
  return { 'Millrace-Position': headers.get('millrace-position')! }
}
