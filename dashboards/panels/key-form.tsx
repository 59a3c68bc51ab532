/** Asks for an API key when the server wants one. */
import { useRef } from 'preact/hooks'
import { keepKey } from '../state.ts'

export function KeyForm() {
  const input = useRef<HTMLInputElement>(null)
  const onSubmit = (event: Event) => {
    event.preventDefault()
    const key = input.current?.value.trim() ?? ''
    if (key !== '') keepKey(key)
  }
  return (
    <main id="panels" class="key-form">
      <form onSubmit={onSubmit}>
        <h2>This server asks for a key</h2>
        <label>
          API key
          <input ref={input} type="password" autoComplete="off" required />
        </label>
        <button type="submit" class="primary">
          Connect
        </button>
        <p class="about">It is kept in this tab only, until you close it.</p>
      </form>
    </main>
  )
}
