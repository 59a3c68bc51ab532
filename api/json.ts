/** JSON of clients: keys that could reach a prototype are refused, wherever they stand. */

/** Throws on text that is not JSON, and on a `__proto__` key. */
export function parseJson(text: string): unknown {
  return JSON.parse(text, (key, value: unknown) => {
    if (key === '__proto__') throw new SyntaxError('a key is `__proto__`')
    return value
  })
}
