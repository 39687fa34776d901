import Foundation

/// A plain TCP connection to this machine, for bytes that no client would send.
package final class RawSocket {
  private let descriptor: Int32

  /// Why there is no connection.
  package enum Failure: Error { case refused(port: Int) }

  /// Connects to a port of the loopback address.
  package init(port: Int) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let isConnected = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard isConnected else {
      close(descriptor)
      throw Failure.refused(port: port)
    }
  }

  /// Sends bytes; nobody minds if the other side has gone.
  package func send(_ bytes: [UInt8]) throws {
    _ = unsafe Foundation.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
  }

  deinit { close(descriptor) }
}
