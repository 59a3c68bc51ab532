/** Light, dark, or as the system says; kept between visits. */
import { computed, effect, signal } from '@preact/signals'

export type ThemeChoice = 'system' | 'light' | 'dark'

const key = 'millrace.theme'
const choices: readonly ThemeChoice[] = ['system', 'light', 'dark']
const systemDark = matchMedia('(prefers-color-scheme: dark)')
const system = signal<'light' | 'dark'>(systemDark.matches ? 'dark' : 'light')

systemDark.addEventListener('change', event => {
  system.value = event.matches ? 'dark' : 'light'
})

const stored = localStorage.getItem(key) as ThemeChoice | null
export const choice = signal<ThemeChoice>(
  stored !== null && choices.includes(stored) ? stored : 'system',
)
export const theme = computed(() => (choice.value === 'system' ? system.value : choice.value))

effect(() => {
  document.documentElement.dataset.theme = theme.value
})

export function nextTheme(): void {
  choice.value = choices[(choices.indexOf(choice.value) + 1) % choices.length]!
  localStorage.setItem(key, choice.value)
}

/** Colours of the page as the canvas needs them. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
}
