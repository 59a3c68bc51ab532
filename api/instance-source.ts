/**
 * The feed of what runs on this instance alone, for the other instances of its group: changes
 * without rows. They read those from what is here, page by page.
 */
import type { PartViews } from '../streams/views.ts'
import type { FeedSource } from './feed.ts'

export function instanceSource(local: PartViews, view: string): FeedSource {
  let position = ''
  let partitions: readonly number[] = []
  return {
    subscribe(onUpdate, scope) {
      // Null: the feed itself, which follows. Its subscribers begin where it is.
      let begun = scope !== null
      const stop =
        scope === null
          ? local.follow(view, update => {
              ;({ position, partitions } = update)
              // The first is where the feed begins.
              if (begun) onUpdate(update)
              begun = true
            })
          : () => {}
      return { position, partitions, snapshot: nothing(), close: stop }
    },
  }
}

async function* nothing(): AsyncGenerator<never> {}
