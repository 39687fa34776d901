/// How much goes to standard error.
package enum LogLevel: String, Sendable, CaseIterable, Comparable {
  case error, warning, info, debug

  /// Errors come first, then ever more detail.
  package static func < (a: LogLevel, b: LogLevel) -> Bool { a.rank < b.rank }

  private var rank: Int {
    switch self {
    case .error: 0
    case .warning: 1
    case .info: 2
    case .debug: 3
    }
  }
}

/// Messages for people on standard error, one per line.
package struct Log: Sendable {
  /// The most detailed level that is written.
  package let level: LogLevel

  /// A log that writes messages up to `level`.
  package init(level: LogLevel) {
    self.level = level
  }

  /// Something failed.
  package func error(_ message: @autoclosure () -> String) { write(.error, message) }
  /// Something needs attention.
  package func warning(_ message: @autoclosure () -> String) { write(.warning, message) }
  /// Something happened.
  package func info(_ message: @autoclosure () -> String) { write(.info, message) }
  /// Something for whoever looks for a fault.
  package func debug(_ message: @autoclosure () -> String) { write(.debug, message) }

  private func write(_ level: LogLevel, _ message: () -> String) {
    guard level <= self.level else { return }
    let prefix = level == .info ? "" : "\(level.rawValue): "
    StandardError.write("step3: \(prefix)\(message())\n")
  }
}
