/** Who may import whom: the table of the architecture, as data. */
import { posix } from 'node:path'
import { isNode, type Node, type Source, type Violation, violation, walk } from './sources.ts'

interface Import {
  readonly specifier: string
  readonly typeOnly: boolean
  readonly names: readonly string[]
  readonly start: number
}

interface FolderRule {
  /** Files the folder's code may import, beside its own. */
  readonly files: readonly RegExp[]
  /** Files it may import types from. */
  readonly types?: readonly RegExp[]
  readonly packages: readonly RegExp[]
  /** Node modules below those that every folder may use. */
  readonly builtins?: readonly string[]
}

const everywhere = ['assert', 'buffer', 'diagnostics_channel', 'events', 'util']
const logPorts = /^log\/[^/]+\.ts$/

/**
 * First match wins, so the narrower folders come first. A folder that is absent here (cli,
 * bench, examples, test) may import anything.
 */
const table: readonly (readonly [RegExp, FolderRule])[] = [
  [/^contracts\//, { files: [], packages: [/^avsc$/, /^typebox(\/|$)/], builtins: ['crypto'] }],
  [/^client\//, { files: [], types: [/^contracts\//], packages: [] }],
  [/^log\/embedded\//, { files: [logPorts], packages: [], builtins: ['crypto'] }],
  [
    /^log\/kafka\//,
    {
      files: [logPorts],
      packages: [/^@platformatic\/kafka(\/|$)/],
      builtins: ['crypto', 'net', 'tls'],
    },
  ],
  [
    /^log\//,
    {
      files: [],
      packages: [/^snappyjs$/, /^lz4-napi$/, /^@node-rs\/crc32$/],
      builtins: ['zlib', 'module', 'crypto'],
    },
  ],
  [
    /^state\/rocksdb(-owner)?\.ts$/,
    {
      files: [logPorts],
      packages: [/^rocksdb-native$/],
      builtins: ['fs', 'fs/promises', 'path', 'module'],
    },
  ],
  [/^state\//, { files: [logPorts], packages: [], builtins: ['crypto'] }],
  [
    /^recording\//,
    { files: [logPorts, /^streams\/sketches\/ddsketch\.ts$/], packages: [], builtins: ['zlib'] },
  ],
  [
    /^streams\/testing\//,
    {
      files: [logPorts, /^log\/embedded\//, /^state\//, /^streams\//],
      packages: [],
      builtins: ['crypto'],
    },
  ],
  [
    /^streams\//,
    {
      files: [logPorts, /^state\/(?!rocksdb(-owner)?\.ts|memory-database\.ts)[^/]+\.ts$/],
      packages: [/^typebox(\/|$)/, /^@opentelemetry\/api$/],
      builtins: ['crypto', 'v8'],
    },
  ],
  [
    /^processors\//,
    {
      files: [/^streams\/(?!testing\/)/, /^contracts\//],
      packages: [/^typebox(\/|$)/],
      builtins: ['crypto'],
    },
  ],
  [
    /^api\//,
    {
      files: [/^streams\/(views|status|errors|letters)\.ts$/, /^contracts\//],
      packages: [/^fastify$/, /^@fastify\//, /^ws$/, /^jose$/, /^typebox(\/|$)/],
      builtins: ['crypto', 'http', 'net', 'path', 'stream', 'stream/promises', 'url', 'zlib'],
    },
  ],
  [
    /^dashboards\/(build|vite\.config)\.ts$/,
    { files: [], packages: [/^vite$/], builtins: ['fs', 'path', 'url'] },
  ],
  [
    /^dashboards\//,
    {
      files: [/^client\//],
      types: [/^contracts\//],
      packages: [/^preact(\/|$)/, /^@preact\//, /^uplot(\/|$)/],
    },
  ],
]

const driverFolders = ['log/embedded/', 'log/kafka/', 'streams/testing/']

function literalText(value: unknown): string | undefined {
  return isNode(value) && typeof value.value === 'string' ? value.value : undefined
}

function importsOf(source: Source): readonly Import[] {
  const found: Import[] = []
  if (source.program === undefined) return found
  walk(source.program, node => {
    const isImport = /^(Import(Declaration|Expression)|Export(All|Named)Declaration|TSImportType)$/
    if (!isImport.test(node.type)) return
    const specifier = literalText(node.source)
    if (specifier === undefined) return
    const specifiers = (node.specifiers ?? []) as readonly Node[]
    const isType = (one: Node) => one.importKind === 'type' || one.exportKind === 'type'
    found.push({
      specifier,
      typeOnly:
        node.type === 'TSImportType' ||
        isType(node) ||
        (specifiers.length > 0 && specifiers.every(isType)),
      names: specifiers.map(one => String((one.imported as Node | undefined)?.name ?? '*')),
      start: node.start,
    })
  })
  return found
}

const randomNames = /^(random\w*|getRandomValues|webcrypto|pseudoRandomBytes|\*)$/

function builtinProblem(rule: FolderRule, { specifier, names, typeOnly }: Import) {
  const name = specifier.slice('node:'.length)
  if (typeOnly) return undefined
  if (![...everywhere, ...(rule.builtins ?? [])].includes(name)) return 'a Node module not its own'
  if (name === 'crypto' && names.some(one => randomNames.test(one))) return 'randomness'
  return undefined
}

function fileProblem(rule: FolderRule, path: string, target: string, typeOnly: boolean) {
  const folder = `${path.split('/')[0]}/`
  const driver = driverFolders.find(one => target.startsWith(one))
  // A folder may import itself, but not its own drivers from outside them.
  const isOwn =
    target.startsWith(folder) && (driver === undefined || path.startsWith(driver)) && folder !== '/'
  const allowed = [...rule.files, ...(typeOnly ? (rule.types ?? []) : [])]
  // A narrower rule of the own folder still decides, so that drivers see ports only.
  const ownDriver = driverFolders.find(one => path.startsWith(one))
  if (isOwn && (ownDriver === undefined || target.startsWith(ownDriver))) return undefined
  if (allowed.some(pattern => pattern.test(target))) return undefined
  return rule.types?.some(pattern => pattern.test(target))
    ? 'a file it may take types from'
    : 'a file'
}

/** Imports that the table does not allow. */
export function checkImports(source: Source): readonly Violation[] {
  const rule = table.find(([pattern]) => pattern.test(source.path))?.[1]
  if (rule === undefined) return []
  const found: Violation[] = []
  for (const one of importsOf(source)) {
    let problem: string | undefined
    if (one.specifier.startsWith('node:')) problem = builtinProblem(rule, one)
    else if (one.specifier.startsWith('.')) {
      const target = posix.join(posix.dirname(source.path), one.specifier)
      problem = fileProblem(rule, source.path, target, one.typeOnly)
    } else if (!rule.packages.some(pattern => pattern.test(one.specifier))) problem = 'a package'
    if (problem === undefined) continue
    const detail = `${source.path} may not import ${one.specifier} (${problem})`
    found.push(violation(source, 'imports', one.start, detail))
  }
  return found
}
