import Disaggregation
import DisaggregationTestSupport
import TestSupport
import Testing
import UCXTransport

@Suite("What every transport must do, over UCX")
struct UCXConformanceTests {
  @Test("shared memory", arguments: TransportConformance.checks.map(\.claim))
  func sharedMemory(_ claim: String) throws {
    var settings = UCXSettings()
    settings.reach = .thisMachine
    try run(claim, settings)
  }

  @Test("TCP over the loopback device", arguments: TransportConformance.checks.map(\.claim))
  func network(_ claim: String) throws {
    var settings = UCXSettings()
    settings.reach = .network
    settings.host = "127.0.0.1"
    try run(claim, settings)
  }

  private func run(_ claim: String, _ settings: UCXSettings) throws {
    let check = try #require(TransportConformance.checks.first { $0.claim == claim })
    let port = FreePort.next()
    let conformance = try TransportConformance(
      caller: UCXTransport(settings), listener: UCXTransport(settings),
      address: "127.0.0.1:\(port)", deadAddress: "127.0.0.1:\(FreePort.next())")
    try check.run(conformance)
  }
}
