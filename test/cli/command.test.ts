import { expect, test } from 'vitest'
import { type Command, commandHelp, jsonSwitch, parseCommand } from '../../cli/command.ts'

const command: Command = {
  name: 'look',
  operands: 'THING',
  operandsMin: 1,
  operandsMax: 1,
  summary: 'Looks at a thing.',
  settings: ['dataDir'],
  switches: [jsonSwitch, { name: 'from', placeholder: 'TIME', meaning: 'since when' }],
  examples: ['millrace look here'],
  run: async () => 0,
}

test('settings, switches and operands are read in any order', () => {
  const argv = ['--json', 'a', '--data-dir', './x', '--from=-5']
  expect(parseCommand(command, argv)).toEqual({
    flags: { json: true, 'data-dir': './x', from: '-5' },
    operands: ['a'],
  })
  expect(parseCommand(command, ['--', '--json']).operands).toEqual(['--json'])
})

test.each([
  [['a', '--jsn'], /Unknown option --jsn\. Options: --data-dir, --json, --from, --help/],
  [['a', '-x'], /Unknown option -x/],
  [['a', '--__proto__'], /Unknown option --__proto__/],
  [['a', '--from'], /--from needs a value/],
  [['a', '--from', '--json'], /--from needs a value/],
  [['a', '--json=1'], /--json takes no value/],
  [[], /operand is missing: millrace look THING/],
  [['a', 'b'], /Unexpected operand "b"/],
])('%j is refused with a way on', (argv, problem) => {
  expect(() => parseCommand(command, argv)).toThrow(problem)
  expect(() => parseCommand(command, argv)).toThrow(/millrace look --help/)
})

test('help is given without the operands', () => {
  expect(parseCommand(command, ['-h']).flags.help).toBe(true)
  const help = commandHelp(command)
  for (const part of [
    'Usage: millrace look THING',
    '--data-dir',
    'DATA_DIR',
    './data',
    '--from TIME',
    'millrace look here',
  ]) {
    expect(help).toContain(part)
  }
})
