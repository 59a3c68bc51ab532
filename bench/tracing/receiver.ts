/** A receiver of spans as a process of its own: prints its address, and at its end what it got. */
import { OtlpReceiver } from '../../test/support/otlp-receiver.ts'

const receiver = await OtlpReceiver.open()
process.stdout.write(`${receiver.url}\n`)
process.once('SIGTERM', async () => {
  process.stdout.write(`${receiver.spans.length}\n`)
  await receiver.close()
})
