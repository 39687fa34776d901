import Disaggregation
import Glibc
import Tensors
import UCXTransport

// A process at the other end of a transport, for tests that kill it: listens at the address given
// as its first argument and sends every payload back. The second argument is `network` or `local`.
// A payload of step `UInt64.max` kills it halfway through the copy of its answer.

let address = CommandLine.arguments[1]
var settings = UCXSettings()
settings.host = "127.0.0.1"
settings.reach = CommandLine.arguments[2] == "network" ? .network : .thisMachine
settings.waiting = .events
let transport = try UCXTransport(settings)
try transport.listen(at: address)
let memory = try transport.register(byteCount: 16 << 20)
print("listening", transport.now > .zero)

/// Makes reading the memory a signal that ends the process.
func forbidReading(_ memory: RegisteredMemory) {
  signal(SIGSEGV, SIG_DFL)
  let pageSize = UInt(sysconf(Int32(_SC_PAGESIZE)))
  let first = unsafe UInt(bitPattern: memory.region.base) / pageSize * pageSize
  unsafe mprotect(UnsafeMutableRawPointer(bitPattern: first), memory.byteCount, PROT_NONE)
}

var lastToken: UInt64 = 0
while true {
  transport.wait(until: transport.now + .seconds(1))
  while let event = transport.nextEvent() {
    switch event {
    case .arrived(_, let header, let id):
      try transport.receive(id, into: memory[0..<Int(header.payloadByteCount)])
    case .received(let link, var header, _):
      header.kind = .combine
      if header.step == .max { forbidReading(memory) }
      lastToken += 1
      try? transport.send(
        header, payload: memory[0..<Int(header.payloadByteCount)], on: link,
        token: SendToken(lastToken))
    case .control(let link, var header, let payload):
      header.kind = .pong
      try? transport.sendControl(header, payload: payload, on: link)
    case .connected, .accepted, .sent, .lost: break
    }
  }
}
