import CEvent
import Foundation
import Synchronization

/// What becomes of a request that this process makes.
enum HTTPClientEvent: Sendable {
  /// A piece of the body, as it comes.
  case body([UInt8])
  /// The whole answer is there, with its status.
  case end(status: Int)
  /// There is no answer, or its rest will not come.
  case failed
}

/// One request to make.
struct HTTPClientRequest: Sendable {
  var host: String
  var port: Int
  var method = "GET"
  var path: String
  var headers: [HTTPField] = []
  var body: [UInt8] = []
  /// Seconds of silence after which it has failed.
  var silenceSeconds = 3600
}

/// An HTTP client of one thread: any number of requests at once, none of which waits for another.
///
/// `@unchecked Sendable`: all mutable state but the commands belongs to the thread inside `run`.
@safe
final class HTTPClientLoop: @unchecked Sendable {
  private enum Command: Sendable {
    case start(UInt64, HTTPClientRequest, @Sendable (HTTPClientEvent) -> Void)
    case cancel(UInt64)
    case stop
  }

  private let base: OpaquePointer
  private let wakeDescriptor: WakeDescriptor
  private let commands = Mutex<[Command]>([])
  private let lastNumber = Atomic<UInt64>(0)
  private var waker: OpaquePointer?
  private var calls: [UInt64: HTTPCall] = [:]
  /// Connections that callbacks are done with; freed outside of them.
  private var finished: [HTTPCall] = []

  init() throws(HTTPServerError) {
    cevent_prepare_process()
    guard let base = unsafe event_base_new() else { throw .noEventLoop }
    unsafe self.base = base
    wakeDescriptor = try WakeDescriptor()
    let thread = Thread { self.run() }
    thread.name = "http-client"
    thread.start()
  }

  /// Makes a request; `onEvent` is called on the client's thread and must return at once.
  func start(
    _ request: HTTPClientRequest, onEvent: @escaping @Sendable (HTTPClientEvent) -> Void
  ) -> UInt64 {
    let number = lastNumber.add(1, ordering: .relaxed).newValue
    post(.start(number, request, onEvent))
    return number
  }

  /// Gives a request up by closing its connection; nothing more comes of it.
  func cancel(_ number: UInt64) { post(.cancel(number)) }

  /// Ends the thread.
  func stop() { post(.stop) }

  private func post(_ command: Command) {
    commands.withLock { $0.append(command) }
    wakeDescriptor.wake()
  }

  private static func from(_ context: UnsafeMutableRawPointer?) -> HTTPClientLoop? {
    guard let context = unsafe context else { return nil }
    return unsafe Unmanaged<HTTPClientLoop>.fromOpaque(context).takeUnretainedValue()
  }

  private func run() {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    unsafe waker = cevent_new_waker(
      base, wakeDescriptor.number,
      { _, _, context in
        unsafe HTTPClientLoop.from(context)?.takeCommands()
      }, context)
    unsafe event_add(waker, nil)
    unsafe event_base_dispatch(base)
    for call in calls.values { call.free() }
    for call in finished { call.free() }
    unsafe cevent_free_event(waker)
    unsafe event_base_free(base)
  }

  private func takeCommands() {
    wakeDescriptor.clear()
    for call in finished { call.free() }
    finished = []
    let taken = commands.withLock { commands in
      defer { commands = [] }
      return commands
    }
    for command in taken {
      switch command {
      case .start(let number, let request, let onEvent):
        let call = unsafe HTTPCall(number, base, loop: self, onEvent: onEvent)
        calls[number] = call
        if !call.start(request) { call.finish(.failed) }
      case .cancel(let number): calls.removeValue(forKey: number)?.free()
      case .stop: unsafe event_base_loopbreak(base)
      }
    }
  }

  /// Told by a call, inside one of its callbacks.
  fileprivate func didFinish(_ call: HTTPCall) {
    guard let known = calls.removeValue(forKey: call.number) else { return }
    finished.append(known)
    wakeDescriptor.wake()
  }
}

/// One request under way, on a connection of its own.
@safe
private final class HTTPCall {
  let number: UInt64
  private let base: OpaquePointer
  private unowned let loop: HTTPClientLoop
  private let onEvent: @Sendable (HTTPClientEvent) -> Void
  private var connection: OpaquePointer?
  private var isOver = false

  init(
    _ number: UInt64, _ base: OpaquePointer, loop: HTTPClientLoop,
    onEvent: @escaping @Sendable (HTTPClientEvent) -> Void
  ) {
    self.number = number
    unsafe self.base = base
    self.loop = loop
    self.onEvent = onEvent
  }

  private static func from(_ context: UnsafeMutableRawPointer?) -> HTTPCall? {
    guard let context = unsafe context else { return nil }
    return unsafe Unmanaged<HTTPCall>.fromOpaque(context).takeUnretainedValue()
  }

  /// Sends the request; false when that is not possible at all.
  func start(_ request: HTTPClientRequest) -> Bool {
    guard
      let connection = unsafe evhttp_connection_base_new(
        base, nil, request.host, UInt16(request.port))
    else { return false }
    unsafe self.connection = connection
    unsafe evhttp_connection_set_timeout(connection, Int32(request.silenceSeconds))
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    guard
      let made = unsafe evhttp_request_new(
        { request, context in unsafe HTTPCall.from(context)?.didComplete(request) }, context)
    else { return false }
    unsafe evhttp_request_set_chunked_cb(
      made,
      { request, context in
        guard let request = unsafe request else { return }
        unsafe HTTPCall.from(context)?.deliver(request)
      })
    let headers = unsafe evhttp_request_get_output_headers(made)
    let host = request.host.contains(":") ? "[\(request.host)]" : request.host
    unsafe evhttp_add_header(headers, "Host", "\(host):\(request.port)")
    unsafe evhttp_add_header(headers, "Connection", "close")
    for field in request.headers { unsafe evhttp_add_header(headers, field.name, field.value) }
    if !request.body.isEmpty {
      unsafe evbuffer_add(
        evhttp_request_get_output_buffer(made), request.body, request.body.count)
    }
    let method = request.method == "POST" ? EVHTTP_REQ_POST : EVHTTP_REQ_GET
    // On failure the library has freed the request, and may have called back.
    return unsafe evhttp_make_request(connection, made, method, request.path) == 0
  }

  private func deliver(_ request: UnsafeMutablePointer<evhttp_request>) {
    guard let buffer = unsafe evhttp_request_get_input_buffer(request) else { return }
    let count = unsafe evbuffer_get_length(buffer)
    guard count > 0, !isOver else { return }
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { storage, filled in
      filled = unsafe max(0, Int(evbuffer_remove(buffer, storage.baseAddress, count)))
    }
    onEvent(.body(bytes))
  }

  private func didComplete(_ request: UnsafeMutablePointer<evhttp_request>?) {
    guard let request = unsafe request else { return finish(.failed) }
    let status = unsafe Int(evhttp_request_get_response_code(request))
    guard status != 0 else { return finish(.failed) }
    unsafe deliver(request)
    finish(.end(status: status))
  }

  func finish(_ event: HTTPClientEvent) {
    guard !isOver else { return }
    isOver = true
    onEvent(event)
    loop.didFinish(self)
  }

  /// Closes the connection; never inside a callback of it.
  func free() {
    isOver = true
    if let connection = unsafe connection { unsafe evhttp_connection_free(connection) }
    unsafe connection = nil
  }
}
