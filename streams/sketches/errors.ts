/** The sketches' rows of the error catalogue; `log/errors.ts` explains the mechanism. */
import { type ErrorRow, errorsOf } from '../../log/errors.ts'

export const sketchCatalogue = {
  SKETCH_CORRUPT: {
    message: 'The stored bytes are not a {sketch}: {reason}.',
    recovery: 'stop',
    status: 500,
  },
} as const satisfies Record<string, ErrorRow>

export const sketchError = errorsOf(sketchCatalogue)
