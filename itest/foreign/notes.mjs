// A Nostr client that is not ours (nostr-tools). Of a line of JSON on standard
// input, {relay, filter, publish, check}, it publishes an event that it signs, reads
// what the relay has, checks events and serialises them, and says what it saw.
import { finalizeEvent, getEventHash, verifyEvent } from 'nostr-tools/pure'
import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import WebSocket from 'ws'

useWebSocketImplementation(WebSocket)
let input = ''
for await (const chunk of process.stdin) input += chunk
const job = JSON.parse(input)
const out = { published: [], refused: [], events: [], checked: [] }

for (const e of job.check ?? []) out.checked.push(verifyEvent(e) && getEventHash(e) === e.id)
if (job.relay) {
  const relay = await Relay.connect(job.relay)
  for (const e of job.publish ?? []) {
    const signed = finalizeEvent(e, Uint8Array.from(Buffer.from(job.secret, 'hex')))
    try {
      await relay.publish(signed)
      out.published.push(signed)
    } catch (err) {
      out.refused.push(String(err.message ?? err))
    }
  }
  await new Promise((done) => {
    const sub = relay.subscribe([job.filter], {
      onevent: (e) => out.events.push(e), // verified by the library
      oneose: () => { sub.close(); done() },
    })
  })
  relay.close()
}
console.log(JSON.stringify(out))
process.exit()
