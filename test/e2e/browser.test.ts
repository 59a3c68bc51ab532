import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import Type from 'typebox'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseApiKeys, type Server } from '../../api/index.ts'
import { buildDashboard } from '../../dashboards/build.ts'
import { dateTime } from '../../dashboards/format.ts'
import { findChromium, launchChromium } from '../support/chromium.ts'
import { fakeServer } from '../support/fake-server.ts'
import { FakeShop } from '../support/fake-shop.ts'
import { FakeViews } from '../support/fake-views.ts'
import { freePort } from '../support/ports.ts'

const missing = findChromium() === undefined
if (missing && process.env.CI === 'true') throw new Error('Chromium is missing.')
if (missing) console.warn('SKIPPED: tests of the dashboard, as Chromium is missing.')

const axePath = createRequire(import.meta.url).resolve('axe-core/axe.min.js')
const axe = readFileSync(axePath, 'utf8')
let browser: Browser
let dashboardRoot: string
const servers: Server[] = []
const pages: Page[] = []

beforeAll(async () => {
  if (missing) return
  dashboardRoot = await buildDashboard(mkdtempSync(join(tmpdir(), 'dashboard-')))
  browser = await launchChromium()
})

afterEach(async () => {
  for (const page of pages.splice(0)) await page.context().close()
  for (const server of servers.splice(0)) await server.close()
})

afterAll(async () => {
  await browser?.close()
  if (dashboardRoot !== undefined) rmSync(dashboardRoot, { recursive: true })
})

async function serve(shop: FakeShop, options: Parameters<typeof fakeServer>[0] = {}, port = 0) {
  const { server } = await fakeServer({ fake: shop.views, dashboardRoot, ...options })
  servers.push(server)
  return { server, address: await server.listen({ host: '127.0.0.1', port }) }
}

function filledShop(): FakeShop {
  const shop = new FakeShop()
  shop.backfill(Date.now())
  shop.unpaid(12, Date.now())
  return shop
}

/** A page and everything that went wrong on it: errors, policy violations, foreign requests. */
async function visit(address: string, options: BrowserContextOptions = {}) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, ...options })
  pages.push(page)
  const complaints: string[] = []
  page.on('pageerror', error => complaints.push(String(error)))
  page.on('console', message => {
    const text = message.text()
    if (message.type() === 'error' && !text.includes('ERR_CONNECTION')) complaints.push(text)
  })
  page.on('request', request => {
    if (!request.url().startsWith(address)) complaints.push(`asked ${request.url()}`)
  })
  await page.goto(address)
  return { page, complaints }
}

const state = (page: Page) => page.locator('.state dd')
const figureOf = (page: Page, label: string) => page.getByLabel(label).locator('.figure')

async function violations(page: Page): Promise<string[]> {
  // The page's policy forbids script tags; evaluation by the browser's tools is not one.
  await page.evaluate(axe)
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> }
    }
    const found = await axe.run()
    return found.violations.map(one => `${one.id}: ${one.nodes.map(node => node.html).join(' ')}`)
  })
}

describe.skipIf(missing)('the dashboard', () => {
  test('shows the views, and changes with them without a reload', async () => {
    const shop = filledShop()
    const { address } = await serve(shop)
    const { page, complaints } = await visit(address)
    await expect.poll(() => state(page).textContent()).toBe('Live')
    await expect.poll(() => figureOf(page, 'Unpaid after 24 h').textContent()).toBe('12')
    await expect.poll(() => page.locator('.multiple').count()).toBe(6)
    await page.locator('.alerts li').first().waitFor()
    const before = await page.locator('.alerts li').count()
    shop.alert(Date.now())
    shop.unpaid(14, Date.now())
    await expect.poll(() => page.locator('.alerts li').count()).toBe(before + 1)
    await expect.poll(() => figureOf(page, 'Unpaid after 24 h').textContent()).toBe('14')
    expect(complaints).toEqual([])
  })

  test('any view can be looked at: its newest windows, as they change', async () => {
    const shop = filledShop()
    const { address } = await serve(shop)
    const { page, complaints } = await visit(address)
    await page.getByLabel('View whose rows are shown').selectOption('unpaid-orders')
    const panel = page.getByRole('figure', { name: 'unpaid-orders' })
    await expect.poll(() => panel.locator('tbody tr').count()).toBe(12)
    shop.unpaid(14, Date.now())
    await expect.poll(() => panel.locator('tbody tr').count()).toBe(14)
    await page.getByLabel('View whose rows are shown').selectOption('revenue')
    const first = page.getByRole('figure', { name: 'revenue' }).locator('tbody tr').first()
    const { rows } = await shop.views.rows('revenue', { key: {}, limit: 10_000 })
    const newest = Math.max(...rows.map(row => row.windowStart as number))
    await expect.poll(() => first.textContent()).toContain(dateTime(newest))
    expect(await violations(page)).toEqual([])
    expect(complaints).toEqual([])
  })

  test('windows of a day, and many of them at once, are shown, the newest first', async () => {
    const dayMs = 86_400_000
    const fake = new FakeViews([
      {
        name: 'daily',
        kind: 'window',
        description: 'By shop and day.',
        key: [{ name: 'shop', type: 'string' }],
        value: Type.Object({ orders: Type.Integer() }),
        units: {},
      },
    ])
    const today = Math.floor(Date.now() / dayMs) * dayMs
    const row = (windowStart: number, i: number) => {
      const shop = `s${String(i).padStart(4, '0')}`
      return { shop, windowStart, windowEnd: windowStart + dayMs, final: false, orders: i }
    }
    const starts = [today - dayMs, today]
    fake.put(
      'daily',
      ...starts.flatMap(start => Array.from({ length: 900 }, (_, i) => row(start, i))),
    )
    const { server } = await fakeServer({ fake, dashboardRoot })
    servers.push(server)
    const { page, complaints } = await visit(await server.listen({ host: '127.0.0.1', port: 0 }))
    const lines = page.getByRole('figure', { name: 'daily' }).locator('tbody tr')
    await expect.poll(() => lines.count()).toBe(100)
    expect(await lines.first().textContent()).toContain(`s0899${dateTime(today)}`)
    await page.getByText('100 of its rows').waitFor()
    expect(complaints).toEqual([])
  })

  test('rows that take longer to come than a poll are shown', async () => {
    const { address } = await serve(filledShop())
    const { page } = await visit(address)
    await page.route('**/rows?*', async route => {
      await new Promise(resolve => setTimeout(resolve, 3500))
      await route.continue().catch(() => {})
    })
    await page.getByLabel('View whose rows are shown').selectOption('unpaid-orders')
    const panel = page.getByRole('figure', { name: 'unpaid-orders' })
    await expect.poll(() => panel.locator('tbody tr').count()).toBe(12)
  })

  test('an instance with views of its own shows those, and no empty panels', async () => {
    const fake = new FakeViews([
      {
        name: 'balance',
        kind: 'table',
        description: 'What each account has.',
        key: [{ name: 'account', type: 'string' }],
        value: Type.Object({ cents: Type.Integer(), at: Type.Integer() }),
        units: { at: 'ms' },
      },
    ])
    fake.put('balance', { account: 'ann', cents: 750, at: 1_767_225_600_000 })
    const { server } = await fakeServer({ fake, dashboardRoot })
    servers.push(server)
    const { page, complaints } = await visit(await server.listen({ host: '127.0.0.1', port: 0 }))
    const panel = page.getByRole('figure', { name: 'balance' })
    const shown = `ann750${dateTime(1_767_225_600_000)}`
    await expect.poll(() => panel.locator('tbody tr').allTextContents()).toEqual([shown])
    expect(await page.locator('.panel').count()).toBe(1)
    expect(await violations(page)).toEqual([])
    expect(complaints).toEqual([])
  })

  test.each(['light', 'dark'] as const)(
    'has no accessibility violation in %s',
    async scheme => {
      const { address } = await serve(filledShop())
      const { page } = await visit(address, { colorScheme: scheme })
      await page.locator('.alerts li').first().waitFor()
      expect(await violations(page)).toEqual([])
      for (const button of await page.getByRole('button', { name: /as a table/ }).all()) {
        await button.click()
      }
      await page.getByRole('button', { name: 'Pause' }).click()
      expect(await page.locator('table').count()).toBe(7)
      expect(await violations(page)).toEqual([])
    },
    60_000,
  )

  test('empty, disconnected and asking for a key it has none either', async () => {
    const { address, server } = await serve(new FakeShop())
    const { page } = await visit(address)
    await page.getByText('No order was paid').waitFor()
    expect(await violations(page)).toEqual([])
    await server.close()
    await page.getByText('Reconnecting:').waitFor()
    expect(await violations(page)).toEqual([])
    const auth = { keys: parseApiKeys('ann:reader:s3cret'), allowedOrigins: [] }
    const locked = await serve(filledShop(), { auth })
    const other = await visit(locked.address)
    await other.page.getByLabel('API key').waitFor()
    expect(await violations(other.page)).toEqual([])
    await other.page.getByLabel('API key').fill('s3cret')
    await other.page.getByRole('button', { name: 'Connect' }).click()
    await other.page.locator('.alerts li').first().waitFor()
  })

  test('reconnects to a restarted server and shows what changed meanwhile', async () => {
    const shop = filledShop()
    const port = await freePort()
    const { address, server } = await serve(shop, {}, port)
    const { page, complaints } = await visit(address)
    await expect.poll(() => figureOf(page, 'Unpaid after 24 h').textContent()).toBe('12')
    await server.close()
    await expect.poll(() => state(page).textContent()).toBe('Reconnecting')
    expect(await figureOf(page, 'Unpaid after 24 h').textContent()).toBe('12')
    shop.unpaid(17, Date.now())
    await serve(shop, {}, port)
    await expect.poll(() => state(page).textContent()).toBe('Live')
    await expect.poll(() => figureOf(page, 'Unpaid after 24 h').textContent()).toBe('17')
    expect(complaints).toEqual([])
  })

  test('Pause holds every number still; Resume shows the present', async () => {
    const shop = filledShop()
    const { address } = await serve(shop)
    const { page } = await visit(address)
    await expect.poll(() => figureOf(page, 'Unpaid after 24 h').textContent()).toBe('12')
    await page.getByRole('button', { name: 'Pause' }).click()
    const main = page.locator('main')
    const still = await main.textContent()
    for (let round = 0; round < 8; round++) {
      shop.step(Date.now(), 20)
      shop.unpaid(20 + round, Date.now())
      await page.waitForTimeout(300)
    }
    expect(await main.textContent()).toBe(still)
    await page.getByRole('button', { name: 'Resume' }).click()
    await expect.poll(() => figureOf(page, 'Unpaid after 24 h').textContent()).toBe('27')
  })

  test('the keyboard reaches the controls and reads a chart', async () => {
    const { address } = await serve(filledShop())
    const { page } = await visit(address)
    const chart = page.getByRole('slider', { name: /Revenue of eu-west in EUR/ })
    await chart.waitFor()
    await page.keyboard.press('Tab')
    await expect
      .poll(() => page.evaluate(() => document.activeElement?.textContent))
      .toMatch(/Skip/)
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await expect.poll(() => state(page).textContent()).toBe('Paused')
    await chart.focus()
    const newest = await chart.getAttribute('aria-valuetext')
    await page.keyboard.press('ArrowLeft')
    await page.keyboard.press('ArrowLeft')
    const earlier = await chart.getAttribute('aria-valuetext')
    expect(newest).toMatch(/^\d\d:\d\d: eu-west €/)
    expect(earlier).toMatch(/^\d\d:\d\d: eu-west €/)
    expect(earlier).not.toBe(newest)
  })

  test('names from outside are text, whatever they hold', async () => {
    const shop = filledShop()
    const evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    const windowStart = Math.floor(Date.now() / 3_600_000) * 3_600_000
    shop.views.put('top-products', {
      currency: 'USD',
      rank: 1,
      windowStart,
      windowEnd: windowStart + 3_600_000,
      final: false,
      sku: evil,
      quantity: 1,
      grossMinor: 1,
    })
    const { address } = await serve(shop)
    const { page, complaints } = await visit(address)
    // Which currency comes first depends on what was sold, and so on the time of day.
    await page.getByLabel('Currency of the top products').selectOption('USD')
    await page.getByText(evil).waitFor()
    expect(await page.evaluate(() => 'hit' in window)).toBe(false)
    expect(complaints).toEqual([])
  })

  test('nothing moves by itself for people who asked for that', async () => {
    const { address } = await serve(filledShop())
    const { page } = await visit(address, { reducedMotion: 'reduce' })
    await page.locator('.alerts li').first().waitFor()
    expect(await page.evaluate(() => document.getAnimations().length)).toBe(0)
    const { page: other } = await visit(address)
    await other.locator('.alerts li').first().waitFor()
    expect(await other.evaluate(() => document.getAnimations().length)).toBeGreaterThan(0)
  })

  test('the theme follows the system until it is chosen, and the choice is kept', async () => {
    const { address } = await serve(filledShop())
    const { page } = await visit(address, { colorScheme: 'light' })
    const shown = () => page.evaluate(() => document.documentElement.dataset.theme)
    await expect.poll(shown).toBe('light')
    await page.emulateMedia({ colorScheme: 'dark' })
    await expect.poll(shown).toBe('dark')
    await page.getByRole('button', { name: /Theme/ }).click()
    await expect.poll(shown).toBe('light')
    await page.reload()
    await expect.poll(shown).toBe('light')
  })
})
