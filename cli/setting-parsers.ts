/** What the texts of settings say. Each throws an error whose message is what is expected. */
import { isLoopback } from '../api/index.ts'
import { type SideReason, sideReasons } from '../streams/operator.ts'

export function integer(min: number, max: number) {
  return (text: string): number => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
    if (value >= min && value <= max) return value
    throw new Error(`an integer from ${min} to ${max}`)
  }
}

export function text(value: string): string {
  return value
}

export function optionalText(value: string): string | undefined {
  return value === '' ? undefined : value
}

/** Keys that came in the clear could be anybody's, and so could the tokens they accept. */
export function keySetUrl(value: string): string | undefined {
  if (value === '') return undefined
  const url = URL.canParse(value) ? new URL(value) : undefined
  const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && isLocal(url))
  if (isSafe && url?.username === '' && url.password === '') return value
  throw new Error('an https URL, or an http URL of this machine, without a password')
}

function isLocal(url: URL): boolean {
  return isLoopback(url.hostname)
}

export function onOff(value: string): boolean {
  if (value === 'on' || value === 'off') return value === 'on'
  throw new Error('on or off')
}

export function services(value: string): readonly string[] | 'on' | 'off' | undefined {
  if (value === '') return undefined
  if (value === 'on' || value === 'off') return value
  const names = value.split(',').map(name => name.trim())
  if (names.every(name => /^[\w-]+$/.test(name))) return [...new Set(names)]
  throw new Error('on, off, or names of services, comma separated')
}

export function sagaKind(value: string): 'choreographed' | 'orchestrated' {
  if (value === 'choreographed' || value === 'orchestrated') return value
  throw new Error('choreographed or orchestrated')
}

export function brokers(value: string): string[] | undefined {
  if (value === '') return undefined
  const list = value.split(',').map(broker => broker.trim())
  const isBroker = (broker: string) => /^(\[[\da-f:.]+\]|[\w.-]+):\d{1,5}$/i.test(broker)
  if (list.every(isBroker)) return list
  throw new Error('host:port of one or more brokers, comma separated')
}

const saslMechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'] as const

export function saslMechanism(value: string) {
  if (value === '') return undefined
  const mechanism = saslMechanisms.find(one => one === value.toUpperCase())
  if (mechanism !== undefined) return mechanism
  throw new Error(`one of ${saslMechanisms.join(', ')}`)
}

/** `host:port`, or an http URL of nothing else. */
export function endpoint(value: string): { host: string; port: number } | undefined {
  if (value === '') return undefined
  const url = /^http:\/\//.test(value) ? value : `http://${value}`
  const { hostname, pathname, search, username } = URL.canParse(url) ? new URL(url) : noUrl
  const port = /:(\d{1,5})\/?$/.exec(url)?.[1]
  const isBare = pathname === '/' && search === '' && username === ''
  if (hostname !== '' && port !== undefined && Number(port) > 0 && isBare) {
    return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port) }
  }
  throw new Error('host:port, or http://host:port')
}

const noUrl = { hostname: '', pathname: '', search: '', username: '' }

export function httpUrl(value: string): string | undefined {
  if (value === '') return undefined
  if (URL.canParse(value) && /^https?:$/.test(new URL(value).protocol)) return value
  throw new Error('an http or https URL')
}

export function rate(value: string): number {
  const number = /^\d{1,6}(\.\d{1,3})?$/.test(value) ? Number(value) : Number.NaN
  if (number > 0 && number <= 100_000) return number
  throw new Error('events a second, above 0 and at most 100000')
}

export function share(value: string): number {
  const number = /^(0|1|[01]?\.\d{1,9})$/.test(value) ? Number(value) : Number.NaN
  if (number >= 0 && number <= 1) return number
  throw new Error('a number from 0 to 1')
}

export function reasons(value: string): SideReason[] {
  const given = value.split(',').map(reason => reason.trim())
  return given.filter(Boolean).map(reason => {
    const known = sideReasons.find(each => each === reason)
    if (known === undefined) throw new Error(`some of ${sideReasons.join(', ')}, comma separated`)
    return known
  })
}

export function origins(value: string): string[] {
  return value
    .split(',')
    .map(origin => origin.trim())
    .filter(origin => origin !== '')
    .map(origin => {
      if (URL.canParse(origin) && new URL(origin).origin === origin) return origin
      throw new Error('origins such as https://example.org, comma separated, without a path')
    })
}
