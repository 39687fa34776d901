import CEvent
import Synchronization

/// evhttp and its one thread. With `EventConnection`, the only code here that holds C pointers.
///
/// `@unchecked Sendable`: after `init` all mutable state belongs to the thread inside `run`; other
/// threads touch the command queue and the two constants alone.
@safe
final class EventLoop: @unchecked Sendable {
  let port: Int
  let commands: LoopCommandQueue
  let options: HTTPServerOptions
  let handler: any HTTPHandler
  let base: OpaquePointer
  private let server: OpaquePointer
  private let tls: OpaquePointer?
  private let wakeDescriptor: WakeDescriptor
  private var waker: OpaquePointer?
  private var sweeper: OpaquePointer?
  private var attacher: OpaquePointer?
  private var checker: OpaquePointer?
  /// Buffer events made for accepted sockets, whose connections exist once the accept is over.
  private var unattached: [OpaquePointer] = unsafe []
  private var connections: [OpaquePointer: EventConnection] = unsafe [:]
  private var exchanges: [UInt64: EventConnection] = [:]
  private var suspects: [EventConnection] = []
  private var nextNumber: UInt64 = 1
  private(set) var isClosingAfterAnswers = false
  private let ending = Mutex(Ending())

  private struct Ending {
    var isOver = false
    var waiters: [CheckedContinuation<Void, Never>] = []
  }

  init(options: HTTPServerOptions, handler: any HTTPHandler) throws(HTTPServerError) {
    self.options = options
    self.handler = handler
    cevent_prepare_process()
    guard let base = unsafe event_base_new(), let server = unsafe evhttp_new(base) else {
      throw .noEventLoop
    }
    let wakeDescriptor = try WakeDescriptor()
    if let certificates = options.certificates, let key = options.key {
      guard let context = unsafe cevent_tls_context(certificates, key) else {
        throw .certificateUnusable(certificates: certificates, key: key)
      }
      unsafe tls = context
    } else {
      unsafe tls = nil
    }
    unsafe self.base = base
    unsafe self.server = server
    self.wakeDescriptor = wakeDescriptor
    commands = LoopCommandQueue { wakeDescriptor.wake() }
    // The guard's limits come first; evhttp's own only stand behind them.
    unsafe evhttp_set_max_headers_size(server, 4 * options.maximumHeadByteCount)
    unsafe evhttp_set_max_body_size(server, options.maximumBodyByteCount + (1 << 20))
    unsafe evhttp_set_timeout(server, Int32(options.idleSeconds))
    unsafe evhttp_set_allowed_methods(server, 0xFFFF)
    unsafe evhttp_set_default_content_type(server, nil)
    guard
      let socket = unsafe evhttp_bind_socket_with_handle(
        server, options.host, UInt16(options.port))
    else {
      let code = cevent_error_number()
      unsafe evhttp_free(server)
      unsafe event_base_free(base)
      throw .bindFailed(host: options.host, port: options.port, code: code)
    }
    port = Int(cevent_bound_port(unsafe evhttp_bound_socket_get_fd(socket)))
  }

  /// Serves until stopped; owns the calling thread.
  func run() {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    unsafe waker = cevent_new_waker(
      base, wakeDescriptor.number,
      { _, _, context in
        unsafe EventLoop.from(context)?.takeCommands()
      }, context)
    unsafe sweeper = cevent_new_timer(
      base,
      { _, _, context in
        unsafe EventLoop.from(context)?.sweep()
      }, context)
    unsafe attacher = event_new(
      base, -1, 0,
      { _, _, context in
        unsafe EventLoop.from(context)?.attachAccepted()
      }, context)
    unsafe checker = event_new(
      base, -1, 0,
      { _, _, context in
        unsafe EventLoop.from(context)?.checkSuspects()
      }, context)
    unsafe evhttp_set_bevcb(
      server,
      { _, context in
        unsafe EventLoop.from(context)?.makeBufferEvent()
      }, context)
    unsafe evhttp_set_gencb(
      server,
      { request, context in
        guard let request = unsafe request else { return }
        unsafe EventLoop.from(context)?.receive(request)
      }, context)
    unsafe event_add(waker, nil)
    var second = timeval(tv_sec: 1, tv_usec: 0)
    unsafe event_add(sweeper, &second)
    unsafe event_base_dispatch(base)
    tearDown()
  }

  /// Returns when the loop's thread is done.
  func finished() async {
    await withCheckedContinuation { continuation in
      let isOver = ending.withLock { ending in
        if !ending.isOver { ending.waiters.append(continuation) }
        return ending.isOver
      }
      if isOver { continuation.resume() }
    }
  }

  private static func from(_ context: UnsafeMutableRawPointer?) -> EventLoop? {
    guard let context = unsafe context else { return nil }
    return unsafe Unmanaged<EventLoop>.fromOpaque(context).takeUnretainedValue()
  }

  private func tearDown() {
    unsafe evhttp_free(server)
    unsafe cevent_free_event(waker)
    unsafe cevent_free_event(sweeper)
    unsafe cevent_free_event(attacher)
    unsafe cevent_free_event(checker)
    unsafe event_base_free(base)
    if let tls = unsafe tls { unsafe SSL_CTX_free(tls) }
    let waiters = ending.withLock { ending in
      ending.isOver = true
      defer { ending.waiters = [] }
      return ending.waiters
    }
    for waiter in waiters { waiter.resume() }
  }

  // MARK: Connections

  private func makeBufferEvent() -> OpaquePointer? {
    let made: OpaquePointer? =
      if let tls = unsafe tls {
        unsafe cevent_new_tls(base, tls)
      } else {
        unsafe bufferevent_socket_new(base, -1, 0)
      }
    if let made = unsafe made {
      unsafe unattached.append(made)
      // Runs after the accept that asked, before any byte of the connection is read.
      unsafe event_active(attacher, 0, 1)
    }
    return unsafe made
  }

  private func attachAccepted() {
    while let bufferEvent = unsafe unattached.popLast() {
      guard let pointer = unsafe cevent_connection_of(bufferEvent) else { continue }
      let connection = unsafe EventConnection(
        loop: self, connection: pointer, bufferEvent: bufferEvent, isSecure: tls != nil)
      unsafe connections[pointer] = connection
    }
  }

  /// Forgets a connection that is being closed.
  func remove(_ connection: EventConnection) {
    unsafe connections[connection.pointer] = nil
    suspects.removeAll { $0 === connection }
  }

  private func receive(_ request: UnsafeMutablePointer<evhttp_request>) {
    guard let pointer = unsafe evhttp_request_get_connection(request),
      let connection = unsafe connections[pointer]
    else {
      unsafe evhttp_send_error(request, 500, nil)
      return
    }
    let number = nextNumber
    nextNumber += 1
    unsafe connection.receive(request, number: number)
  }

  // MARK: Exchanges

  /// Hands a request over to the handler's task.
  func start(_ request: HTTPRequest, number: UInt64, on connection: EventConnection) {
    let exchange = HTTPExchange(
      request: request, number: number, commands: commands,
      commonHeaders: handler.commonHeaders(request))
    exchanges[number] = connection
    let handler = handler
    connection.exchange = exchange
    connection.task = Task {
      await handler.handle(exchange)
      exchange.end()
    }
  }

  func forget(exchange number: UInt64) {
    exchanges[number] = nil
  }

  private func takeCommands() {
    wakeDescriptor.clear()
    for command in commands.takeAll() {
      switch command {
      case .respond(let number, let response): exchanges[number]?.respond(response)
      case .begin(let number, let status, let headers, let keepAlive):
        exchanges[number]?.begin(status: status, headers: headers, keepAlive: keepAlive)
      case .write(let number, let bytes): exchanges[number]?.write(bytes)
      case .end(let number): exchanges[number]?.end()
      case .abandon(let number):
        exchanges[number]?.respond(
          handler.refusal(
            status: 500, reason: "The request was left without an answer.", method: "", target: ""))
      case .closeAfterAnswers: isClosingAfterAnswers = true
      case .stop: unsafe event_base_loopbreak(base)
      }
    }
  }

  // MARK: Time

  private func sweep() {
    let now = ContinuousClock.now
    for connection in unsafe Array(connections.values) { connection.sweep(now: now) }
  }

  /// Looks again, soon, whether a client that stopped sending has left altogether.
  func suspect(_ connection: EventConnection) {
    suspects.append(connection)
    var soon = timeval(tv_sec: 0, tv_usec: 20_000)
    unsafe event_add(checker, &soon)
  }

  private func checkSuspects() {
    let checked = suspects
    suspects.removeAll()
    for connection in checked { connection.closeIfDead() }
  }
}
