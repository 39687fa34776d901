import Disaggregation
import DisaggregationTestSupport
import Testing

@Suite("Delayed transport")
struct DelayedTransportTests {
  @Test("does what every transport must", arguments: TransportConformance.checks.indices)
  func conforms(index: Int) throws {
    let network = LoopbackNetwork()
    let pair = try TransportConformance(
      caller: DelayedTransport(network.makeTransport(), delay: .microseconds(300)),
      listener: network.makeTransport(), address: "ffn-0", deadAddress: "nobody")
    try TransportConformance.checks[index].run(pair)
  }

  @Test("nothing passes before its time, in either direction")
  func holdsBack() throws {
    let network = LoopbackNetwork()
    let delay = Duration.milliseconds(20)
    let caller = DelayedTransport(network.makeTransport(), delay: delay)
    let listener = network.makeTransport()
    try listener.listen(at: "a")
    let link = try caller.connect(to: "a")
    listener.progress()
    guard case .accepted(let back, _) = listener.nextEvent() else {
      Issue.record("not accepted")
      return
    }
    caller.progress()
    #expect(caller.nextEvent() == .connected(link))
    let sent = caller.now
    try caller.sendControl(WireHeader(kind: .ping), payload: [], on: link)
    try listener.sendControl(WireHeader(kind: .pong), payload: [], on: back)
    var (there, here) = (false, false)
    while !(there && here) {
      caller.progress()
      listener.progress()
      let elapsed = caller.now - sent
      if case .control = listener.nextEvent() { (there, _) = (true, #expect(elapsed >= delay)) }
      if case .control = caller.nextEvent() { (here, _) = (true, #expect(elapsed >= delay)) }
      if elapsed > .seconds(10) { break }
    }
    #expect(there && here)
  }
}
