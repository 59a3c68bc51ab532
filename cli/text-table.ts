/** Rows as aligned columns, numbers to the right. */

export function textTable(rows: readonly Readonly<Record<string, unknown>>[]): string {
  if (rows.length === 0) return 'none\n'
  const names = [...new Set(rows.flatMap(row => Object.keys(row)))]
  const cells = rows.map(row => names.map(name => cellText(row[name])))
  const widths = names.map((name, i) => Math.max(name.length, ...cells.map(row => row[i].length)))
  const isNumber = names.map(name => rows.every(row => typeof row[name] === 'number'))
  const line = (texts: readonly string[]) =>
    texts
      .map((text, i) => (isNumber[i] ? text.padStart(widths[i]) : text.padEnd(widths[i])))
      .join('  ')
      .trimEnd()
  return `${[line(names), ...cells.map(line)].join('\n')}\n`
}

function cellText(value: unknown): string {
  if (value === undefined || value === null) return ''
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these would rule the terminal
  const printable = (text: string) => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd')
  return printable(typeof value === 'string' ? value : JSON.stringify(value))
}
