/** Tells people who do not see the page what matters, and not more often than they can hear. */
import { signal, useSignalEffect } from '@preact/signals'
import { useRef } from 'preact/hooks'
import { alerts } from '../feeds.ts'
import { connectionLook } from './header.tsx'

const quietMs = 10_000
const text = signal('')

export function Announcer() {
  const last = useRef({ word: '', alerts: -1, at: 0 })
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined)
  useSignalEffect(() => {
    const { word } = connectionLook()
    const open = alerts.rows.value.length
    const tell = () => {
      timer.current = undefined
      const before = last.current
      const parts: string[] = []
      if (before.word !== word) parts.push(`Feed: ${word}.`)
      const more = open - before.alerts
      if (before.alerts >= 0 && more > 0)
        parts.push(`${more} new ${more === 1 ? 'alert' : 'alerts'}.`)
      last.current = { word, alerts: open, at: Date.now() }
      if (parts.length > 0) text.value = parts.join(' ')
    }
    clearTimeout(timer.current)
    timer.current = setTimeout(tell, Math.max(0, last.current.at + quietMs - Date.now()))
  })
  return (
    <p class="unseen" role="status">
      {text}
    </p>
  )
}
