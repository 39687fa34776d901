import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Turns SIGINT and SIGTERM into calls, so that a command can drain before it ends.
///
/// The first signal calls `onFirst` with the exit code to end with once drained; a second one ends
/// the process at once. While no watch is alive the signals end the process as usual.
package final class SignalWatch {
  private let sources: [any DispatchSourceSignal]
  private let first = FirstSignal()

  /// Watches from now on; `onFirst` runs on a background queue.
  package init(onFirst: @escaping @Sendable (ExitCode) -> Void) {
    let queue = DispatchQueue(label: "step3.signals")
    let first = first
    sources = [(SIGINT, ExitCode.interrupted), (SIGTERM, .terminated)].map { number, code in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler {
        if first.claim(code) { onFirst(code) } else { _exit(code.rawValue) }
      }
      source.resume()
      return source
    }
  }

  /// The exit code of the signal that came, nil while none did.
  package var received: ExitCode? { first.code }

  /// Forgets the signal that came, so that the next one is a first one again (`step3 chat`).
  package func reset() { first.reset() }

  deinit {
    for source in sources { source.cancel() }
    signal(SIGINT, SIG_DFL)
    signal(SIGTERM, SIG_DFL)
  }
}

private final class FirstSignal: Sendable {
  private let value = Mutex<ExitCode?>(nil)

  var code: ExitCode? { value.withLock { $0 } }

  /// Takes note of a signal; false when one came before.
  func claim(_ code: ExitCode) -> Bool {
    value.withLock { value in
      guard value == nil else { return false }
      value = code
      return true
    }
  }

  func reset() { value.withLock { $0 = nil } }
}

/// Thrown by a command that a signal stopped, after it has drained.
package struct StoppedBySignal: CommandError, Equatable {
  /// 130 or 143.
  package let exitCode: ExitCode
  /// The `code` of the error's JSON form.
  package var code: String { "stopped" }
  /// What happened.
  package var description: String { "stopped by a signal" }

  /// Stopped with this exit code.
  package init(_ exitCode: ExitCode) {
    self.exitCode = exitCode
  }
}
