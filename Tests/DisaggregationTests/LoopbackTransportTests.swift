import Disaggregation
import DisaggregationTestSupport
import Testing

@Suite("Loopback transport")
struct LoopbackTransportTests {
  @Test("does what every transport must", arguments: TransportConformance.checks.indices)
  func conforms(index: Int) throws {
    let network = LoopbackNetwork()
    let pair = try TransportConformance(
      caller: network.makeTransport(), listener: network.makeTransport(), address: "ffn-0",
      deadAddress: "nobody")
    try TransportConformance.checks[index].run(pair)
  }

  @Test("a cut breaks both ends, a freeze delays")
  func faults() throws {
    let network = LoopbackNetwork()
    let caller = network.makeTransport()
    let listener = network.makeTransport()
    try listener.listen(at: "a")
    let link = try caller.connect(to: "a")
    network.freeze("a")
    try caller.sendControl(WireHeader(kind: .ping), payload: [], on: link)
    listener.progress()
    guard case .accepted(let back, _) = listener.nextEvent() else {
      Issue.record("not accepted")
      return
    }
    #expect(listener.nextEvent() == nil)
    network.thaw("a")
    listener.progress()
    #expect(listener.nextEvent() == .control(back, WireHeader(kind: .ping), payload: []))
    network.cut("a")
    listener.progress()
    caller.progress()
    #expect(listener.nextEvent() == .lost(back, .broken(reason: "cut")))
    #expect(caller.nextEvent() == .connected(link))
    #expect(caller.nextEvent() == .lost(link, .broken(reason: "cut")))
  }
}
