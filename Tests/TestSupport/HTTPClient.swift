import Foundation
import Glibc

/// An answer as it came.
package struct HTTPAnswer: Sendable {
  /// The status code; 0 when the server closed without an answer.
  package var status = 0
  /// Header fields by lowercase name.
  package var headers: [String: String] = [:]
  /// The body without its framing.
  package var body: [UInt8] = []

  /// No answer at all.
  package init(status: Int = 0) { self.status = status }

  /// The body as UTF-8 text.
  package var text: String { String(decoding: body, as: UTF8.self) }

  /// The body as one JSON document.
  package func json<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
    try JSONDecoder().decode(type, from: Data(body))
  }

  /// The `data:` lines of an event stream.
  package var events: [String] {
    text.split(separator: "\n").filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
  }
}

/// One connection to a server on this machine, with bytes sent as they are.
///
/// Blocking: call it from `Parallel` threads or between other work, never while a task's thread is
/// needed elsewhere.
package final class HTTPClient {
  private let descriptor: Int32
  private var isOpen = true
  private var received: [UInt8] = []

  /// Connects; reads give up after `timeoutSeconds` of silence.
  package init(port: Int, timeoutSeconds: Int = 60) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    var timeout = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
    let own = descriptor
    let size = socklen_t(MemoryLayout<timeval>.size)
    _ = unsafe setsockopt(own, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
    _ = unsafe setsockopt(own, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)
    var yes: Int32 = 1
    _ = unsafe setsockopt(own, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, 4)
    func attempt() -> Bool {
      unsafe withUnsafePointer(to: &address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
          unsafe connect(own, address, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
      }
    }
    var isConnected = attempt()
    // A process that was stopped and goes on finds the call interrupted.
    while !isConnected, errno == EINTR || errno == EALREADY { isConnected = attempt() }
    guard isConnected || errno == EISCONN else {
      close()
      throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO)
    }
  }

  deinit { close() }

  /// Closes both directions.
  package func close() {
    if isOpen { _ = Glibc.close(descriptor) }
    isOpen = false
  }

  /// Closes the sending half alone.
  package func finishSending() { _ = shutdown(descriptor, Int32(SHUT_WR)) }

  /// Sends bytes; false once the server takes no more.
  @discardableResult
  package func send(_ bytes: [UInt8]) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let rest = Array(bytes[sent..<min(bytes.count, sent + (1 << 20))])
      let count = unsafe Glibc.send(descriptor, rest, rest.count, Int32(MSG_NOSIGNAL))
      guard count > 0 else { return false }
      sent += count
    }
    return true
  }

  /// Sends text as UTF-8.
  @discardableResult
  package func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  /// The bytes of a request.
  package static func bytes(
    _ method: String, _ path: String, body: [UInt8] = [], headers: [String] = []
  ) -> [UInt8] {
    var head = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n"
    if method == "POST" {
      head += "Content-Type: application/json\r\nContent-Length: \(body.count)\r\n"
    }
    for header in headers { head += header + "\r\n" }
    return Array((head + "\r\n").utf8) + body
  }

  /// Sends a request and reads its whole answer.
  package func ask(
    _ method: String, _ path: String, _ body: String = "", headers: [String] = []
  ) -> HTTPAnswer {
    send(Self.bytes(method, path, body: Array(body.utf8), headers: headers))
    return answer()
  }

  /// Reads one answer: its head, then a body framed by length, by chunks or by the connection's end.
  package func answer() -> HTTPAnswer {
    var answer = HTTPAnswer()
    repeat {
      guard let head = read(through: Array("\r\n\r\n".utf8)) else { return answer }
      answer = Self.parse(head: head)
    } while answer.status == 100
    if answer.headers["transfer-encoding"] == "chunked" {
      while let line = read(through: [0x0D, 0x0A]) {
        let digits = String(decoding: line.dropLast(2), as: UTF8.self)
        let size = Int(digits, radix: 16) ?? 0
        guard let chunk = read(count: size + 2) else { break }
        answer.body += chunk.dropLast(2)
        if size == 0 { break }
      }
    } else if let length = answer.headers["content-length"].flatMap({ Int($0) }) {
      answer.body = read(count: length) ?? []
    } else if answer.status != 204 {
      while fill() {}
      answer.body = received
      received = []
    }
    return answer
  }

  /// Reads until `mark` has come; what was read, the mark included, nil when the server closed.
  package func read(through mark: [UInt8]) -> [UInt8]? {
    var searched = 0
    while true {
      if received.count >= mark.count {
        for start in searched...(received.count - mark.count)
        where received[start] == mark[0] && received[start..<start + mark.count].elementsEqual(mark)
        {
          let taken = Array(received[..<(start + mark.count)])
          received.removeFirst(taken.count)
          return taken
        }
        searched = received.count - mark.count + 1
      }
      guard fill() else { return nil }
    }
  }

  private func read(count: Int) -> [UInt8]? {
    while received.count < count { guard fill() else { return nil } }
    let taken = Array(received[..<count])
    received.removeFirst(count)
    return taken
  }

  private func fill() -> Bool {
    guard isOpen else { return false }
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return false }
      received += buffer[..<count]
      return true
    }
  }

  private static func parse(head: [UInt8]) -> HTTPAnswer {
    var answer = HTTPAnswer()
    let lines = String(decoding: head, as: UTF8.self)
      .split(omittingEmptySubsequences: true) { $0.isNewline }
    let words = lines.first?.split(separator: " ") ?? []
    answer.status = words.count > 1 ? Int(words[1]) ?? 0 : 0
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      let value = line[line.index(after: colon)...].drop { $0 == " " }
      answer.headers[line[..<colon].lowercased()] = String(value)
    }
    return answer
  }
}

/// Runs blocking bodies on threads of their own.
package enum Parallel {
  /// Calls `body` for 0..<count, all at once, and returns their results in order.
  package static func map<Result: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (Int) -> Result
  ) async -> [Result] {
    await withTaskGroup(of: (Int, Result).self) { group in
      for index in 0..<count {
        group.addTask {
          await withCheckedContinuation { continuation in
            let thread = Thread { continuation.resume(returning: (index, body(index))) }
            thread.stackSize = 1 << 20
            thread.start()
          }
        }
      }
      var results: [Int: Result] = [:]
      for await (index, result) in group { results[index] = result }
      return (0..<count).compactMap { results[$0] }
    }
  }
}
