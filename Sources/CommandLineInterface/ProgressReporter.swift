import Synchronization

/// Shows how far a long piece of work is: a bar that redraws itself on a terminal, plain lines
/// elsewhere. Bytes, rate and time left; everything goes to standard error.
package final class ProgressReporter: Sendable {
  private struct State {
    var done = 0
    var nextDrawing: ContinuousClock.Instant
    var lastTenth = 0
  }

  private let label: String
  private let byteCount: Int
  private let isTerminal: Bool
  private let isQuiet: Bool
  private let start = ContinuousClock.now
  private let state: Mutex<State>
  private let sink: @Sendable (String) -> Void

  /// Starts to report on `byteCount` bytes of work called `label`.
  package convenience init(_ label: String, byteCount: Int, log: Log) {
    self.init(
      label, byteCount: byteCount, isTerminal: StandardError.isTerminal,
      isQuiet: log.level < .info, sink: StandardError.write)
  }

  init(
    _ label: String, byteCount: Int, isTerminal: Bool, isQuiet: Bool,
    sink: @escaping @Sendable (String) -> Void
  ) {
    self.label = label
    self.byteCount = max(1, byteCount)
    self.isTerminal = isTerminal
    self.isQuiet = isQuiet
    self.sink = sink
    state = Mutex(State(nextDrawing: start))
  }

  /// Says that `bytes` more bytes are done; may be called from any thread.
  package func advance(by bytes: Int) {
    let now = ContinuousClock.now
    let drawing: String? = state.withLock { state in
      state.done += bytes
      let tenth = state.done * 10 / byteCount
      if isTerminal {
        guard now >= state.nextDrawing else { return nil }
        state.nextDrawing = now + .milliseconds(100)
        return "\r" + bar(state.done, now)
      }
      guard tenth > state.lastTenth, state.done < byteCount else { return nil }
      state.lastTenth = tenth
      return line(state.done, now) + "\n"
    }
    if let drawing, !isQuiet { sink(drawing) }
  }

  /// Says that the work is done, and how long it took.
  package func finish() {
    guard !isQuiet else { return }
    let seconds = Self.seconds(ContinuousClock.now - start)
    let text =
      "\(label): \(ByteSize.words(byteCount)) in \(ByteSize.decimal(seconds, digits: 1)) s"
    sink(isTerminal ? "\r" + text + "\u{1B}[K\n" : text + "\n")
  }

  private func line(_ done: Int, _ now: ContinuousClock.Instant) -> String {
    let seconds = max(Self.seconds(now - start), 1e-6)
    let rate = Double(done) / seconds
    let left = Double(byteCount - done) / max(rate, 1)
    return "\(label): \(min(100, done * 100 / byteCount)) %, \(ByteSize.words(done)) of "
      + "\(ByteSize.words(byteCount)), \(ByteSize.words(Int(rate)))/s, "
      + "\(ByteSize.decimal(left, digits: 0)) s left"
  }

  private func bar(_ done: Int, _ now: ContinuousClock.Instant) -> String {
    let filled = min(20, done * 20 / byteCount)
    let blocks = String(repeating: "█", count: filled) + String(repeating: "░", count: 20 - filled)
    return "\(blocks) \(line(done, now))\u{1B}[K"
  }

  private static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
  }
}
