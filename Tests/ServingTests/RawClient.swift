import Glibc

/// A TCP client that sends bytes as they are; for what no well-behaved client would send.
final class RawClient {
  private let descriptor: Int32

  private let timeoutSeconds: Int

  init(port: Int, timeoutSeconds: Int = 10) {
    self.timeoutSeconds = timeoutSeconds
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    let descriptor = descriptor
    let code = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        unsafe connect(descriptor, address, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    precondition(code == 0, "cannot connect to the test server")
  }

  deinit { close() }

  private var isOpen = true

  func close() {
    if isOpen { _ = Glibc.close(descriptor) }
    isOpen = false
  }

  /// Closes the sending half alone.
  func finishSending() {
    _ = shutdown(descriptor, Int32(SHUT_WR))
  }

  @discardableResult
  func send(_ text: String) -> RawClient {
    send(Array(text.utf8))
  }

  @discardableResult
  func send(_ bytes: [UInt8]) -> RawClient {
    var sent = 0
    while sent < bytes.count {
      let rest = Array(bytes[sent...])
      let count = unsafe Glibc.send(descriptor, rest, rest.count, Int32(MSG_NOSIGNAL))
      if count <= 0 { break }
      sent += count
    }
    return self
  }

  /// What arrives until `isEnough` says so, the peer closes, or the time is over.
  ///
  /// Polls instead of blocking, for the server's tasks run on the same few threads as the tests.
  func receive(until isEnough: (String) -> Bool) async -> String {
    var received: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let end = ContinuousClock.now + .seconds(timeoutSeconds)
    while ContinuousClock.now < end, !isEnough(String(decoding: received, as: UTF8.self)) {
      let count = unsafe recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
      if count > 0 {
        received += buffer[..<count]
      } else if count < 0 && (errno == EAGAIN || errno == EINTR) {
        try? await Task.sleep(for: .milliseconds(1))
      } else {
        break
      }
    }
    return String(decoding: received, as: UTF8.self)
  }

  /// Everything until the peer closes.
  func receiveAll() async -> String {
    await receive { _ in false }
  }
}

/// Pairs of connected sockets, to see what is written into descriptors that are nobody's business.
final class SocketPairs {
  private var descriptors: [Int32] = []

  init(count: Int) {
    for _ in 0..<count {
      var pair: [Int32] = [-1, -1]
      let code = unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair)
      precondition(code == 0, "cannot make a pair of sockets")
      descriptors += pair
    }
  }

  deinit { for descriptor in descriptors { _ = Glibc.close(descriptor) } }

  /// Bytes that somebody wrote into any of them.
  var receivedByteCount: Int {
    var bytes = [UInt8](repeating: 0, count: 64)
    return descriptors.reduce(0) { sum, descriptor in
      sum + max(0, unsafe recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT)))
    }
  }
}
