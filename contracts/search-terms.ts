/**
 * How text is cut into terms, for what is indexed and for what is asked alike: NFKC, lower case;
 * each run without white space is a term, and so is each run of letters and digits in it.
 * `SKU-12 München` gives `sku-12`, `sku`, `12`, `münchen`.
 */

/** Longer terms are cut: what is asked is cut in the same place. */
export const termCharsMax = 100

/** The terms of a text, each once. */
export function termsOf(text: string): string[] {
  const words = wordsOf(text)
  const parts = words.flatMap(word => word.split(/[^\p{L}\p{N}]+/u).filter(part => part !== ''))
  return [...new Set([...words, ...parts])].map(term => term.slice(0, termCharsMax))
}

/** What is asked for: each word has to match. */
export function wordsOf(text: string): string[] {
  const words = text.normalize('NFKC').toLowerCase().split(/\s+/u)
  return [...new Set(words.filter(word => word !== '').map(word => word.slice(0, termCharsMax)))]
}
