import CUCX
import Disaggregation

/// A resolved `host:port`.
@safe
struct SocketAddress {
  private(set) var storage = sockaddr_storage()
  private(set) var length: socklen_t = 0

  /// Reads and resolves `host:port` or `[host]:port`.
  init(_ address: String) throws(TransportError) {
    guard let colon = address.lastIndex(of: ":") else {
      throw .badAddress(address: address, reason: "no port")
    }
    var host = String(address[..<colon])
    let port = String(address[address.index(after: colon)...])
    guard let number = Int(port), (1...65_535).contains(number) else {
      throw .badAddress(address: address, reason: "the port is not 1 to 65535")
    }
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    let code = unsafe cucx_resolve(host, port, &storage, &length)
    guard code == 0 else {
      throw .badAddress(
        address: address, reason: unsafe String(cString: gai_strerror(code)))
    }
  }

  /// The interface of this machine that has the address, nil when it is another machine's.
  var ownInterface: String? {
    unsafe name { unsafe cucx_interface_of($0, $1, $2) }
  }

  /// The interface by which packets to the address leave.
  var route: String? {
    unsafe name { unsafe cucx_route_to($0, length, $1, $2) }
  }

  /// The loopback address with the same port.
  var loopback: SocketAddress {
    var copy = self
    unsafe cucx_set_loopback(&copy.storage)
    return copy
  }

  /// Calls `body` with the address as the library wants it.
  func withPointer<R>(_ body: (UnsafePointer<sockaddr_storage>, socklen_t) -> R) -> R {
    unsafe withUnsafePointer(to: storage) { unsafe body($0, length) }
  }

  private func name(
    _ find: (UnsafePointer<sockaddr_storage>, UnsafeMutablePointer<CChar>, Int) -> Int32
  ) -> String? {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
      guard let base = text.baseAddress else { return nil }
      unsafe base.initialize(repeating: 0, count: 64)
      let found = unsafe withUnsafePointer(to: storage) { unsafe find($0, base, 64) }
      return found != 0 ? unsafe String(cString: base) : nil
    }
  }
}
