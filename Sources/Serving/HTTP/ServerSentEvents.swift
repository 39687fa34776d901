import JSONScanning

/// The frames of an event stream, byte by byte as clients expect them.
enum ServerSentEvents {
  static let headers = [
    HTTPField("Content-Type", "text/event-stream; charset=utf-8"),
    HTTPField("Cache-Control", "no-cache"),
    HTTPField("X-Accel-Buffering", "no"),
  ]

  static let done = Array("data: [DONE]\n\n".utf8)

  /// `data: <one line of JSON>` and an empty line.
  static func data(_ value: JSONValue) -> [UInt8] {
    Array("data: \(value.text(.compact))\n\n".utf8)
  }

  /// The same with the event's name before it.
  static func event(_ name: String, _ value: JSONValue) -> [UInt8] {
    Array("event: \(name)\ndata: \(value.text(.compact))\n\n".utf8)
  }
}
