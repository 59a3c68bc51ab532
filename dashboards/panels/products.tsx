/** Best sellers of the hour under way, in one currency at a time. */
import { signal } from '@preact/signals'
import { currencies, currentProducts, products } from '../feeds.ts'
import { count, money, shortCount, shortMoney, time } from '../format.ts'
import { Panel, type TableData } from '../parts/panel.tsx'
import type { ProductRow } from '../rows.ts'

const chosen = signal<string | undefined>(undefined)

export function ProductsPanel() {
  const rows = currentProducts.value
  const available = [...new Set(rows.map(row => row.currency))]
  const order = currencies.value
  available.sort((a, b) => order.indexOf(a) - order.indexOf(b))
  const currency =
    chosen.value !== undefined && available.includes(chosen.value) ? chosen.value : available[0]
  const list = rows.filter(row => row.currency === currency).sort((a, b) => a.rank - b.rank)
  const [first] = list
  const about = first === undefined ? 'this hour' : `since ${time(first.windowStart)}`
  return (
    <Panel
      title="Top products"
      about={about}
      feed={products}
      area="products"
      empty={list.length === 0}
      emptyText="Nothing was ordered this hour."
      table={() => tableOf(list)}
      aside={<Currencies available={available} current={currency} />}
    >
      <ol class="products">
        {list.map(row => (
          <Product key={row.rank} row={row} most={list[0]!.grossMinor} />
        ))}
      </ol>
    </Panel>
  )
}

interface CurrenciesProps {
  readonly available: readonly string[]
  readonly current: string | undefined
}

function Currencies({ available, current }: CurrenciesProps) {
  if (available.length < 2) return null
  return (
    <select
      aria-label="Currency of the top products"
      value={current}
      onChange={event => {
        chosen.value = event.currentTarget.value
      }}
    >
      {available.map(currency => (
        <option key={currency} value={currency}>
          {currency}
        </option>
      ))}
    </select>
  )
}

function Product({ row, most }: { row: ProductRow; most: number }) {
  return (
    <li>
      <span class="rank" aria-hidden="true">
        {row.rank}
      </span>
      <span class="sku">{row.sku}</span>
      <span class={row.final ? 'bar' : 'bar provisional'} aria-hidden="true">
        <span style={{ width: `${(row.grossMinor / Math.max(1, most)) * 100}%` }} />
      </span>
      <span class="minor">× {shortCount(row.quantity)}</span>
      <b title={money(row.grossMinor, row.currency)}>{shortMoney(row.grossMinor, row.currency)}</b>
    </li>
  )
}

function tableOf(list: readonly ProductRow[]): TableData {
  return {
    words: 3,
    head: ['Rank', 'Product', 'State', 'Quantity', 'Value'],
    rows: list.map(row => [
      String(row.rank),
      row.sku,
      row.final ? 'final' : 'provisional',
      count(row.quantity),
      money(row.grossMinor, row.currency),
    ]),
  }
}
