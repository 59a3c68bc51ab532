/** The page analysts watch. */
import { render } from 'preact'
import { AlertsPanel } from './panels/alerts.tsx'
import { FunnelPanel } from './panels/funnel.tsx'
import { KeyForm } from './panels/key-form.tsx'
import { LatencyPanel } from './panels/latency.tsx'
import { PaymentsPanel } from './panels/payments.tsx'
import { ProductsPanel } from './panels/products.tsx'
import { RevenuePanel } from './panels/revenue.tsx'
import { Tiles } from './panels/tiles.tsx'
import { ViewsPanel } from './panels/views.tsx'
import { VolumePanel } from './panels/volume.tsx'
import { Announcer } from './parts/announcer.tsx'
import { Header, Notice } from './parts/header.tsx'
import { connection, hasPanels, start } from './state.ts'
import './theme.ts'

function Page() {
  return (
    <>
      <a class="skip" href="#panels">
        Skip to the panels
      </a>
      <Header />
      <Notice />
      <Announcer />
      {connection.value === 'refused' ? (
        <KeyForm />
      ) : (
        <main id="panels" class={connection.value === 'open' ? '' : 'stale'}>
          {hasPanels.value && <Panels />}
          <ViewsPanel />
        </main>
      )}
      <Footer />
    </>
  )
}

/** Of the analytics; an instance without any of them has its views alone. */
function Panels() {
  return (
    <>
      <Tiles />
      <div class="grid">
        <RevenuePanel />
        <AlertsPanel />
        <VolumePanel />
        <PaymentsPanel />
        <ProductsPanel />
        <FunnelPanel />
        <LatencyPanel />
      </div>
    </>
  )
}

function Footer() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone
  return (
    <footer>
      <span>Times in {zone}</span>
      <nav aria-label="Service">
        <a href="/v1/views">Views</a>
        <a href="/v1/topology">Topology</a>
        <a href="/openapi.json">OpenAPI</a>
        <a href="/metrics">Metrics</a>
      </nav>
    </footer>
  )
}

start()
render(<Page />, document.getElementById('app')!)
