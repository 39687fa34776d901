import Dispatch
import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A real HTTP server on 127.0.0.1 whose answers are raw bytes by path.
final class LoopbackServer: Sendable {
  /// What the server sends for a path.
  enum Answer: Sendable {
    case bytes([UInt8])
    /// This head, then one kilobyte after another until the client leaves.
    case endless(String)
    /// Nothing, until the client leaves.
    case silence
  }

  let port: UInt16
  private let socket: Int32
  private let asked = Mutex<[String]>([])
  private let sent = Atomic(0)

  /// The paths that were asked for, in order.
  var paths: [String] { asked.withLock { $0 } }

  /// Bytes of bodies without end that were sent.
  var sentByteCount: Int { sent.load(ordering: .relaxed) }

  init(_ answers: @escaping @Sendable (_ path: String) -> Answer) throws {
    let listener = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let code = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        var code = unsafe bind(listener, pointer, length)
        if code == 0 { code = listen(listener, 16) }
        if code == 0 { code = unsafe getsockname(listener, pointer, &length) }
        return code
      }
    }
    guard code == 0 else { throw POSIXError(.EADDRNOTAVAIL) }
    port = UInt16(bigEndian: address.sin_port)
    socket = listener
    Thread.detachNewThread { [self] in
      while true {
        let client = accept(listener, nil, nil)
        guard client >= 0 else { return }
        Thread.detachNewThread { [self] in
          serve(client, answers)
          close(client)
        }
      }
    }
  }

  /// Closes the port.
  func stop() { shutdown(socket, Int32(SHUT_RDWR)) }

  func url(_ path: String, host: String = "127.0.0.1") -> String {
    "http://\(host):\(port)\(path)"
  }

  private func serve(_ client: Int32, _ answers: (_ path: String) -> Answer) {
    var request: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while !request.suffix(4).elementsEqual("\r\n\r\n".utf8) {
      let count = unsafe read(client, &buffer, buffer.count)
      guard count > 0 else { return }
      request += buffer.prefix(count)
    }
    let words = String(decoding: request, as: UTF8.self).split(separator: " ")
    let path = words.count > 1 ? String(words[1]) : ""
    asked.withLock { $0.append(path) }
    switch answers(path) {
    case .bytes(let bytes): send(bytes, to: client)
    case .endless(let head):
      var piece = Array(head.utf8)
      while send(piece, to: client) {
        sent.add(piece.count, ordering: .relaxed)
        piece = [UInt8](repeating: 7, count: 1024)
      }
    case .silence: _ = unsafe read(client, &buffer, buffer.count)
    }
  }

  @discardableResult
  private func send(_ bytes: [UInt8], to client: Int32) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = Array(rest)
      let count = unsafe Glibc.send(client, piece, piece.count, Int32(MSG_NOSIGNAL))
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  static func ok(_ body: [UInt8]) -> Answer {
    .bytes(Array("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n".utf8) + body)
  }

  static func redirect(_ target: String) -> Answer {
    .bytes(
      Array("HTTP/1.1 302 Found\r\nLocation: \(target)\r\nContent-Length: 0\r\n\r\n".utf8))
  }
}
