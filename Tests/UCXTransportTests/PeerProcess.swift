import Disaggregation
import Foundation
import TestSupport
import UCXTransport

/// The process of Tests/TransportPeer, at a port of its own.
final class PeerProcess {
  let address: String
  private let process = Process()

  init(isNetwork: Bool, port: Int = FreePort.next()) throws {
    address = "127.0.0.1:\(port)"
    process.executableURL = Step3Process.buildFolder.appendingPathComponent("TransportPeer")
    process.arguments = [address, isNetwork ? "network" : "local"]
    process.standardOutput = FileHandle.nullDevice
    try process.run()
  }

  func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

  func killAndReap() {
    send(SIGKILL)
    process.waitUntilExit()
  }

  deinit {
    if process.isRunning { killAndReap() }
  }
}

/// One end of a link, driven by the test.
final class TestEnd {
  let transport: UCXTransport
  var events: [TransportEvent] = []

  init(isNetwork: Bool) throws {
    var settings = UCXSettings()
    settings.host = "127.0.0.1"
    settings.reach = isNetwork ? .network : .thisMachine
    transport = try UCXTransport(settings)
  }

  /// Waits for an event that `match` likes; nil when none comes in time.
  func first<R>(
    within limit: Duration = .seconds(10), _ match: (TransportEvent) -> R?
  ) -> R? {
    let end = transport.now + limit
    while true {
      for (index, event) in events.enumerated() {
        guard let result = match(event) else { continue }
        events.remove(at: index)
        return result
      }
      if transport.now >= end { return nil }
      transport.wait(until: min(end, transport.now + .milliseconds(50)))
      while let event = transport.nextEvent() { events.append(event) }
    }
  }

  /// Connects, trying again while nobody listens.
  func join(_ address: String) throws -> LinkID? {
    let end = transport.now + .seconds(10)
    while transport.now < end {
      let link = try transport.connect(to: address)
      let isUp = first { event -> Bool? in
        switch event {
        case .connected(link): true
        case .lost(link, _): false
        default: nil
        }
      }
      if isUp == true { return link }
      _ = first(within: .milliseconds(20)) { _ in nil as Bool? }
    }
    return nil
  }

  func loss(of link: LinkID, within limit: Duration = .seconds(10)) -> LinkLoss? {
    first(within: limit) { event in
      if case .lost(link, let reason) = event { reason } else { nil }
    }
  }

  /// Sends `slice`, and takes what comes back into the same place; false when the link was lost.
  func exchange(_ slice: RegisteredSlice, on link: LinkID, token: UInt64) throws -> Bool {
    var header = WireHeader(kind: .dispatch)
    header.sequence = token
    header.payloadByteCount = UInt32(slice.byteCount)
    try transport.send(header, payload: slice, on: link, token: SendToken(token))
    let arrival = first { event -> ArrivalID?? in
      switch event {
      case .arrived(link, let found, let id) where found.sequence == token: .some(id)
      case .lost(link, _): .some(nil)
      default: nil
      }
    }
    guard case .some(.some(let id)) = arrival else { return false }
    try transport.receive(id, into: slice)
    return first { event -> Bool? in
      switch event {
      case .received(link, _, id): true
      case .lost(link, _): false
      default: nil
      }
    } ?? false
  }
}
