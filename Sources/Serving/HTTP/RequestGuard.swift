/// Reads along with the bytes of one connection and refuses what is not plain HTTP/1.
///
/// evhttp accepts a good deal that is malformed, and answers the rest in HTML. The guard sees every
/// byte before evhttp does: whatever passes it is framed the same way by both, so a request can
/// neither hide in another's body nor grow past the limits.
package struct RequestGuard {
  /// Bounds on what one request may hold.
  package struct Limits: Sendable {
    /// Most bytes of the request line and header together.
    package var headByteCount = 64 * 1024
    /// Most header fields.
    package var headerCount = 128
    /// Most bytes of the body.
    package var bodyByteCount = 64 << 20

    package init() {}
  }

  /// Why a request is refused before it has a handler.
  package struct Rejection: Error, Equatable, Sendable {
    /// The status to answer with.
    package var status: Int
    /// What is wrong, for people.
    package var reason: String
    /// Method and target as far as they were read.
    var method = ""
    var target = ""
  }

  /// What the next byte belongs to.
  enum Phase: Equatable {
    case head
    case body(remaining: Int)
    case chunkSize
    case chunkData(remaining: Int)
    case chunkEnd
    case trailer
  }

  private let limits: Limits
  private(set) var phase = Phase.head
  /// Requests seen whole since the connection was opened.
  package private(set) var framedCount = 0
  /// Bytes of the head, chunk-size line or trailer being collected.
  private var line: [UInt8] = []
  private var chunkedByteCount = 0
  private var trailerByteCount = 0
  private var method = ""
  private var target = ""

  package init(limits: Limits) {
    self.limits = limits
  }

  /// Whether part of a request has arrived and the rest has not.
  package var isMidRequest: Bool { phase != .head || !line.isEmpty }

  /// Whether the head is complete and the body is awaited.
  var isReadingBody: Bool { phase != .head }

  /// Takes the next bytes of the connection.
  package mutating func consume(_ bytes: [UInt8]) throws(Rejection) {
    var index = 0
    while index < bytes.count {
      switch phase {
      case .head: try consumeHead(bytes, &index)
      case .body(let remaining):
        let count = min(remaining, bytes.count - index)
        index += count
        if count == remaining {
          finishRequest()
        } else {
          phase = .body(remaining: remaining - count)
        }
      case .chunkData(let remaining):
        let count = min(remaining, bytes.count - index)
        index += count
        phase = count == remaining ? .chunkEnd : .chunkData(remaining: remaining - count)
      case .chunkSize, .chunkEnd, .trailer: try consumeChunkLine(bytes, &index)
      }
    }
  }

  private func rejection(_ status: Int, _ reason: String) -> Rejection {
    Rejection(status: status, reason: reason, method: method, target: target)
  }

  private mutating func finishRequest() {
    framedCount += 1
    phase = .head
    line.removeAll(keepingCapacity: false)
  }

  // MARK: Head

  private mutating func consumeHead(_ bytes: [UInt8], _ index: inout Int) throws(Rejection) {
    while index < bytes.count {
      let byte = bytes[index]
      index += 1
      try checkLineByte(byte)
      line.append(byte)
      if line.count == 2 && byte == 0x0A {
        throw rejection(400, "The request begins with an empty line.")
      }
      guard line.count <= limits.headByteCount else {
        throw rejection(
          431, "The request's header is larger than \(limits.headByteCount) bytes.")
      }
      if byte == 0x0A && line.count >= 4 && line[line.count - 3] == 0x0A {
        let head = line
        line.removeAll(keepingCapacity: false)
        try finishHead(head)
        return
      }
    }
  }

  /// Lines end in CR LF and hold no other control characters but the tab.
  private func checkLineByte(_ byte: UInt8) throws(Rejection) {
    let afterReturn = line.last == 0x0D
    if byte == 0x0A {
      guard afterReturn else {
        throw rejection(400, "A header line ends in LF alone; HTTP lines end in CR LF.")
      }
    } else if afterReturn {
      throw rejection(400, "A CR in the header is not followed by LF.")
    } else if (byte < 0x20 && byte != 0x0D && byte != 0x09) || byte == 0x7F {
      throw rejection(400, "The request's header holds a control character.")
    }
  }

  private mutating func finishHead(_ head: [UInt8]) throws(Rejection) {
    let lines = head.split(separator: 0x0A, omittingEmptySubsequences: false)
      .map { $0.last == 0x0D ? $0.dropLast() : $0 }
    let version = try readRequestLine(lines[0])
    var fields = Framing()
    guard lines.count - 3 <= limits.headerCount else {
      throw rejection(431, "The request has more than \(limits.headerCount) header fields.")
    }
    for line in lines.dropFirst() where !line.isEmpty { try read(field: line, into: &fields) }
    if version == "HTTP/1.1" && fields.hostCount != 1 {
      throw rejection(
        400, fields.hostCount == 0 ? "The Host header is missing." : "There are two Host headers.")
    }
    try startBody(fields, version)
  }

  private mutating func readRequestLine(_ line: ArraySlice<UInt8>) throws(Rejection) -> String {
    let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, !parts[1].isEmpty, parts[0].allSatisfy(isToken)
    else { throw rejection(400, "The request line is not `METHOD /path HTTP/1.1`.") }
    guard parts[0].count <= 32 else { throw rejection(501, "The method is not known.") }
    method = String(decoding: parts[0], as: UTF8.self)
    guard parts[1].allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
      throw rejection(400, "The request's path holds characters that are not percent-encoded.")
    }
    target = String(decoding: parts[1], as: UTF8.self)
    let version = String(decoding: parts[2], as: UTF8.self)
    guard version == "HTTP/1.1" || version == "HTTP/1.0" else {
      guard version.hasPrefix("HTTP/") else {
        throw rejection(400, "The request line is not `METHOD /path HTTP/1.1`.")
      }
      throw rejection(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    }
    let lowered = target.lowercased()
    guard
      target.hasPrefix("/") || (target == "*" && method == "OPTIONS")
        || lowered.hasPrefix("http://") || lowered.hasPrefix("https://")
    else { throw rejection(400, "The request's target must be a path that begins with `/`.") }
    return version
  }

  /// The fields that decide where a request ends.
  private struct Framing {
    var hostCount = 0
    var contentLength: Int?
    var isChunked = false
  }

  private func read(
    field line: ArraySlice<UInt8>, into fields: inout Framing
  ) throws(Rejection) {
    guard let colon = line.firstIndex(of: 0x3A), colon > line.startIndex,
      line[..<colon].allSatisfy(isToken)
    else {
      throw rejection(400, "A header line is not `Name: value` without space before the colon.")
    }
    let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
    let raw = line[line.index(after: colon)...].drop { $0 == 0x20 }
    guard raw.first != 0x09 else {
      throw rejection(400, "The value of `\(name)` begins with a tab.")
    }
    var value = raw
    while let last = value.last, last == 0x20 || last == 0x09 { value.removeLast() }
    let text = String(decoding: value, as: UTF8.self)
    switch name {
    case "host": fields.hostCount += 1
    case "content-length":
      guard fields.contentLength == nil else {
        throw rejection(400, "There are two Content-Length headers.")
      }
      guard !value.isEmpty, value.allSatisfy({ (0x30...0x39).contains($0) }), value.count <= 15,
        let length = Int(text)
      else { throw rejection(400, "Content-Length is not a number of bytes.") }
      fields.contentLength = length
    case "transfer-encoding":
      guard !fields.isChunked else {
        throw rejection(400, "There are two Transfer-Encoding headers.")
      }
      guard text.lowercased() == "chunked" else {
        throw rejection(501, "The only transfer encoding taken is `chunked`.")
      }
      fields.isChunked = true
    case "expect":
      guard text.lowercased() == "100-continue" else {
        throw rejection(417, "The only expectation met is `100-continue`.")
      }
    default: break
    }
  }

  private mutating func startBody(_ fields: Framing, _ version: String) throws(Rejection) {
    let takesBody = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT"].contains(method)
    if fields.isChunked {
      guard fields.contentLength == nil else {
        throw rejection(400, "Content-Length and Transfer-Encoding exclude each other.")
      }
      guard version == "HTTP/1.1" else {
        throw rejection(400, "Transfer-Encoding needs HTTP/1.1.")
      }
      guard takesBody else { throw rejection(400, "\(method) takes no body.") }
      chunkedByteCount = 0
      phase = .chunkSize
      return
    }
    let length = fields.contentLength ?? 0
    guard length <= limits.bodyByteCount else { throw tooLarge() }
    guard length == 0 || takesBody else { throw rejection(400, "\(method) takes no body.") }
    if length == 0 { finishRequest() } else { phase = .body(remaining: length) }
  }

  private func tooLarge() -> Rejection {
    rejection(413, "The request's body is larger than \(limits.bodyByteCount) bytes.")
  }

  // MARK: Chunks

  private mutating func consumeChunkLine(_ bytes: [UInt8], _ index: inout Int) throws(Rejection) {
    let byte = bytes[index]
    index += 1
    try checkLineByte(byte)
    line.append(byte)
    guard line.count <= 8192 else { throw rejection(400, "A line of a chunked body is too long.") }
    guard byte == 0x0A else { return }
    let text = line.dropLast(2)
    defer { line.removeAll(keepingCapacity: true) }
    switch phase {
    case .chunkEnd:
      guard text.isEmpty else { throw rejection(400, "A chunk is longer than it says.") }
      phase = .chunkSize
    case .chunkSize:
      guard (1...8).contains(text.count),
        let size = Int(String(decoding: text, as: UTF8.self), radix: 16), text.first != 0x2B,
        text.first != 0x2D
      else { throw rejection(400, "A chunk's size is not a hexadecimal number.") }
      chunkedByteCount += size
      guard chunkedByteCount <= limits.bodyByteCount else { throw tooLarge() }
      trailerByteCount = 0
      phase = size == 0 ? .trailer : .chunkData(remaining: size)
    case .trailer:
      if text.isEmpty {
        finishRequest()
        return
      }
      trailerByteCount += text.count
      guard trailerByteCount <= limits.headByteCount else {
        throw rejection(431, "The trailer is larger than \(limits.headByteCount) bytes.")
      }
      var ignored = Framing()
      try read(field: text, into: &ignored)
    case .head, .body, .chunkData: break
    }
  }
}

/// Whether a byte may stand in a method or header name (RFC 9110, `tchar`).
private func isToken(_ byte: UInt8) -> Bool {
  switch byte {
  case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
  default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }
}
