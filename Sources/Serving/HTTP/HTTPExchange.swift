import Synchronization

/// One request on its way to an answer; the handler's side of a connection.
///
/// Everything here may be called from any thread. Bytes travel to the event loop through its
/// command queue, and `write` suspends while the client has not taken what was written before, so
/// a slow reader holds its own handler and nothing else.
package final class HTTPExchange: Sendable {
  /// Bytes that may be on their way to the client before `write` waits.
  static let highWaterByteCount = 256 * 1024

  /// What is to be answered.
  package let request: HTTPRequest
  /// The exchange's number, unique in its server.
  let number: UInt64
  private let commands: LoopCommandQueue
  private let state = Mutex(State())

  private struct State {
    var phase = Phase.waiting
    var isGone = false
    var unsentByteCount = 0
    var status = 0
    var writtenByteCount = 0
    var waiter: CheckedContinuation<Void, Never>?
  }

  private enum Phase { case waiting, streaming, ended }

  private let commonHeaders: [HTTPField]

  init(
    request: HTTPRequest, number: UInt64, commands: LoopCommandQueue, commonHeaders: [HTTPField]
  ) {
    self.request = request
    self.number = number
    self.commands = commands
    self.commonHeaders = commonHeaders
  }

  /// Whether the client has left; writing is pointless then, and harmless.
  package var isGone: Bool { state.withLock { $0.isGone } }

  /// The status sent, 0 before any.
  package var status: Int { state.withLock { $0.status } }

  /// Whether the head of an answer has been sent.
  package var hasBegun: Bool { state.withLock { $0.phase != .waiting } }

  /// Answers at once and whole. Only the first answer counts.
  package func respond(_ response: HTTPResponse) {
    let isFirst = state.withLock { state in
      guard state.phase == .waiting else { return false }
      state.phase = .ended
      state.status = response.status
      return true
    }
    guard isFirst else { return }
    var response = response
    response.headers += commonHeaders
    commands.post(.respond(number, response))
  }

  /// Begins an answer whose body comes in pieces. With `keepAlive` set, an event-stream comment is
  /// sent whenever the stream was silent for the server's interval.
  package func begin(status: Int, headers: [HTTPField], keepAlive: Bool) {
    let isFirst = state.withLock { state in
      guard state.phase == .waiting else { return false }
      state.phase = .streaming
      state.status = status
      return true
    }
    guard isFirst else { return }
    commands.post(.begin(number, status, headers + commonHeaders, keepAlive: keepAlive))
  }

  /// Sends the next piece of the body; waits while the client is behind. False if it has left.
  @discardableResult
  package func write(_ bytes: [UInt8]) async -> Bool {
    let (isOpen, mustWait) = state.withLock { state in
      guard state.phase == .streaming, !state.isGone else { return (false, false) }
      state.unsentByteCount += bytes.count
      state.writtenByteCount += bytes.count
      return (true, state.unsentByteCount > Self.highWaterByteCount)
    }
    guard isOpen else { return false }
    commands.post(.write(number, bytes))
    if mustWait { await drained() }
    return !isGone
  }

  /// Ends a streamed body, or answers 500 if there was no answer at all.
  package func end() {
    let phase = state.withLock { state in
      let phase = state.phase
      state.phase = .ended
      return phase
    }
    switch phase {
    case .waiting: commands.post(.abandon(number))
    case .streaming: commands.post(.end(number))
    case .ended: break
    }
  }

  private func drained() async {
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        guard state.unsentByteCount > Self.highWaterByteCount, !state.isGone else { return true }
        state.waiter = continuation
        return false
      }
      if isFree { continuation.resume() }
    }
  }

  /// Told by the loop: this many bytes have left for the client.
  func didSend(_ byteCount: Int) {
    let waiter = state.withLock { state in
      state.unsentByteCount -= byteCount
      guard state.unsentByteCount <= Self.highWaterByteCount else {
        return nil as CheckedContinuation<Void, Never>?
      }
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// Told by the loop: the client has left.
  func didClose() {
    let waiter = state.withLock { state in
      state.isGone = true
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }
}

/// What other threads ask of the event loop.
enum LoopCommand: Sendable {
  case respond(UInt64, HTTPResponse)
  case begin(UInt64, Int, [HTTPField], keepAlive: Bool)
  case write(UInt64, [UInt8])
  case end(UInt64)
  /// The handler returned without an answer.
  case abandon(UInt64)
  /// From now on every answer closes its connection.
  case closeAfterAnswers
  case stop
}

/// Commands on their way to the loop, and the way to wake it.
final class LoopCommandQueue: Sendable {
  private let pending = Mutex<[LoopCommand]>([])
  private let wake: @Sendable () -> Void

  init(wake: @escaping @Sendable () -> Void) {
    self.wake = wake
  }

  func post(_ command: LoopCommand) {
    let wasEmpty = pending.withLock { pending in
      pending.append(command)
      return pending.count == 1
    }
    if wasEmpty { wake() }
  }

  /// Takes everything that waits.
  func takeAll() -> [LoopCommand] {
    pending.withLock { pending in
      defer { pending = [] }
      return pending
    }
  }
}
