// A public Nostr relay that is not ours, with a store in memory. It says at which
// port it listens, and runs until its standard input ends.
import { EventRepository, EventUtils } from '@nostr-relay/common'
import { NostrRelay } from '@nostr-relay/core'
import { Validator } from '@nostr-relay/validator'
import { WebSocketServer } from 'ws'

class Memory extends EventRepository {
  events = new Map() // by address
  isSearchSupported() { return false }
  upsert(event) {
    const d = event.tags.find((t) => t[0] === 'd')?.[1] ?? ''
    const at = event.kind >= 30000 && event.kind < 40000 ? `${event.kind}:${event.pubkey}:${d}` : event.id
    const old = this.events.get(at)
    if (old && (old.created_at > event.created_at || (old.created_at === event.created_at && old.id <= event.id))) {
      return { isDuplicate: true }
    }
    this.events.set(at, event)
    return { isDuplicate: false }
  }
  find(filter) {
    const found = [...this.events.values()].filter((e) => EventUtils.isMatchingFilter(e, filter))
    return found.sort((a, b) => b.created_at - a.created_at).slice(0, filter.limit ?? 500)
  }
  async destroy() {}
}

const relay = new NostrRelay(new Memory())
const validator = new Validator()
const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
server.on('listening', () => console.log(server.address().port))
server.on('connection', (socket, request) => {
  relay.handleConnection(socket, request.socket.remoteAddress)
  socket.on('message', async (data) => {
    try {
      await relay.handleMessage(socket, await validator.validateIncomingMessage(data))
    } catch (e) {
      console.error(String(e))
      socket.send(JSON.stringify(['NOTICE', String(e.message)]))
    }
  })
  socket.on('close', () => relay.handleDisconnect(socket))
})
process.stdin.on('end', () => process.exit()).resume()
