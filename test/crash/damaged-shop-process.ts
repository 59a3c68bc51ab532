/** Fills a folder with the shop, then closes it or is killed. Arguments: folder, seed, end. */
import { fill } from './damaged-shop.ts'

const [dataDir, seed, end] = process.argv.slice(2)
await fill(dataDir!, Number(seed), () => {
  if (end === 'killed') process.kill(process.pid, 'SIGKILL')
})
