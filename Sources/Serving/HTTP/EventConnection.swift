import CEvent

/// One client's connection: the guard over its bytes, and the request being answered.
///
/// Lives on the event loop's thread alone. evhttp owns the connection and tells us when it goes;
/// this object is retained from its making until then.
@safe
final class EventConnection {
  let pointer: OpaquePointer
  private let bufferEvent: OpaquePointer
  private let descriptor: Int32
  private let isSecure: Bool
  private unowned let loop: EventLoop
  /// Watches the client while it waits for its answer: any sign of life, then only its leaving.
  private var stir: OpaquePointer?
  private var hangup: OpaquePointer?
  private var byteGuard: RequestGuard
  private var completedCount = 0
  /// A fault found behind requests that are still to be answered.
  private var faultBehind: RequestGuard.Rejection?
  private var requestStarted: ContinuousClock.Instant?
  private var bodyByteCount = 0
  private var lingerUntil: ContinuousClock.Instant?
  private var isRefused = false
  /// The request being answered, nil between requests.
  private var current: UnsafeMutablePointer<evhttp_request>?
  private var number: UInt64 = 0
  private var isStreaming = false
  private var sendsKeepAlive = false
  private var lastWrite = ContinuousClock.now
  private var acceptedByteCount = 0
  private var hasHungUp = false
  var exchange: HTTPExchange?
  var task: Task<Void, Never>?

  init(
    loop: EventLoop, connection: OpaquePointer, bufferEvent: OpaquePointer, isSecure: Bool
  ) {
    unsafe pointer = connection
    unsafe self.bufferEvent = bufferEvent
    self.isSecure = isSecure
    self.loop = loop
    descriptor = unsafe bufferevent_getfd(bufferEvent)
    var limits = RequestGuard.Limits()
    limits.headByteCount = loop.options.maximumHeadByteCount
    limits.bodyByteCount = loop.options.maximumBodyByteCount
    byteGuard = RequestGuard(limits: limits)
    cevent_no_delay(descriptor)
    let context = unsafe Unmanaged.passRetained(self).toOpaque()
    unsafe evhttp_connection_set_closecb(
      connection,
      { _, context in
        guard let context = unsafe context else { return }
        let own = unsafe Unmanaged<EventConnection>.fromOpaque(context)
        unsafe own.takeUnretainedValue().didClose()
        unsafe own.release()
      }, context)
    unsafe evbuffer_add_cb(
      bufferevent_get_input(bufferEvent),
      { buffer, info, context in
        guard let buffer = unsafe buffer, let info = unsafe info else { return }
        unsafe EventConnection.from(context)?.didRead(
          buffer, from: info.pointee.orig_size, count: info.pointee.n_added)
      }, context)
    unsafe stir = cevent_new_stir(
      loop.base, descriptor,
      { _, _, context in
        unsafe EventConnection.from(context)?.didStir()
      }, context)
    unsafe hangup = cevent_new_hangup(
      loop.base, descriptor,
      { _, _, context in
        unsafe EventConnection.from(context)?.didHangUp()
      }, context)
  }

  private static func from(_ context: UnsafeMutableRawPointer?) -> EventConnection? {
    guard let context = unsafe context else { return nil }
    return unsafe Unmanaged<EventConnection>.fromOpaque(context).takeUnretainedValue()
  }

  // MARK: Reading

  private func didRead(_ buffer: OpaquePointer, from start: Int, count: Int) {
    guard count > 0, !isRefused, faultBehind == nil else { return }
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { storage, filled in
      var position = unsafe evbuffer_ptr()
      unsafe evbuffer_ptr_set(buffer, &position, start, EVBUFFER_PTR_SET)
      filled = unsafe max(
        0, evbuffer_copyout_from(buffer, &position, storage.baseAddress, count))
    }
    let framedBefore = byteGuard.framedCount
    do throws(RequestGuard.Rejection) {
      try byteGuard.consume(bytes)
    } catch {
      if byteGuard.framedCount > completedCount { faultBehind = error } else { refuse(error) }
      return
    }
    if byteGuard.framedCount != framedBefore || !byteGuard.isMidRequest { requestStarted = nil }
    if byteGuard.isMidRequest {
      if requestStarted == nil {
        requestStarted = .now
        bodyByteCount = 0
      }
      bodyByteCount += count
    }
  }

  /// Answers what is no request, and closes once the client has had a chance to read the answer.
  private func refuse(_ rejection: RequestGuard.Rejection) {
    guard !isRefused else { return }
    isRefused = true
    let response = loop.handler.refusal(
      status: rejection.status, reason: rejection.reason, method: rejection.method,
      target: rejection.target)
    var head = "HTTP/1.1 \(response.status) \(reasonPhrase(response.status))\r\n"
    for field in response.headers { head += "\(field.name): \(field.value)\r\n" }
    head += "Content-Length: \(response.body.count)\r\nConnection: close\r\n\r\n"
    let isBodiless = rejection.method == "HEAD"
    let bytes = Array(head.utf8) + (isBodiless ? [] : response.body)
    lingerUntil = .now + .seconds(5)
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    unsafe bufferevent_setcb(
      bufferEvent,
      { bufferEvent, _ in
        guard let input = unsafe bufferevent_get_input(bufferEvent) else { return }
        unsafe evbuffer_drain(input, evbuffer_get_length(input))
      }, { _, context in unsafe EventConnection.from(context)?.didRefuse() },
      { _, _, context in unsafe EventConnection.from(context)?.close() }, context)
    unsafe evbuffer_add(bufferevent_get_output(bufferEvent), bytes, bytes.count)
    unsafe bufferevent_enable(bufferEvent, Int16(EV_READ | EV_WRITE))
  }

  /// The refusal is out: closes our half and goes on discarding what comes, for a close with unread
  /// bytes would reset the connection under the client's eyes.
  private func didRefuse() {
    lingerUntil = .now + .seconds(2)
    if isSecure { close() } else { shutdown(descriptor, Int32(SHUT_WR)) }
  }

  private func close() {
    unsafe evhttp_connection_free(pointer)
  }

  // MARK: Requests

  /// Takes a request that evhttp has read whole.
  func receive(_ request: UnsafeMutablePointer<evhttp_request>, number: UInt64) {
    unsafe current = request
    self.number = number
    isStreaming = false
    acceptedByteCount = 0
    lastWrite = .now
    requestStarted = nil
    unsafe evhttp_request_set_on_complete_cb(
      request,
      { _, context in
        unsafe EventConnection.from(context)?.didComplete()
      }, Unmanaged.passUnretained(self).toOpaque())
    let received = unsafe read(request, number: number)
    if var response = loop.handler.immediate(received) {
      response.headers += loop.handler.commonHeaders(received)
      respond(response)
      return
    }
    hasHungUp = false
    unsafe event_add(stir, nil)
    loop.start(received, number: number, on: self)
  }

  private func read(
    _ request: UnsafeMutablePointer<evhttp_request>, number: UInt64
  ) -> HTTPRequest {
    var received = HTTPRequest(method: unsafe methodName(request.pointee.type), path: "/")
    if let uri = unsafe evhttp_request_get_evhttp_uri(request) {
      if let path = unsafe evhttp_uri_get_path(uri) {
        received.path = percentDecoded(unsafe String(cString: path))
      }
      if let query = unsafe evhttp_uri_get_query(uri) {
        received.query = unsafe String(cString: query)
      }
    }
    if let headers = unsafe evhttp_request_get_input_headers(request) {
      var header = unsafe cevent_first_header(headers)
      while let field = unsafe header {
        received.headers.append(
          unsafe HTTPField(String(cString: field.pointee.key), String(cString: field.pointee.value))
        )
        unsafe header = cevent_next_header(field)
      }
    }
    received.id =
      received.header("x-request-id").flatMap { Identifiers.isUsable($0) ? $0 : nil }
      ?? Identifiers.make("req_")
    if let host = unsafe request.pointee.remote_host {
      received.client = unsafe String(cString: host)
    }
    if let input = unsafe evhttp_request_get_input_buffer(request) {
      let count = unsafe evbuffer_get_length(input)
      received.body = unsafe [UInt8](unsafeUninitializedCapacity: count) { storage, filled in
        filled = unsafe max(0, Int(evbuffer_remove(input, storage.baseAddress, count)))
      }
    }
    return received
  }

  // MARK: Answering

  private func setHeaders(
    _ headers: [HTTPField], on request: UnsafeMutablePointer<evhttp_request>
  ) {
    guard let output = unsafe evhttp_request_get_output_headers(request) else { return }
    for field in headers { unsafe evhttp_add_header(output, field.name, field.value) }
    let isLastBeforeFault = faultBehind != nil && byteGuard.framedCount == completedCount + 1
    if loop.isClosingAfterAnswers || isLastBeforeFault {
      unsafe evhttp_add_header(output, "Connection", "close")
    }
  }

  /// Sends a whole answer.
  func respond(_ response: HTTPResponse) {
    guard let request = unsafe current, !isStreaming else { return }
    unsafe setHeaders(response.headers, on: request)
    let body = unsafe evbuffer_new()
    defer { unsafe evbuffer_free(body) }
    if unsafe request.pointee.type == EVHTTP_REQ_HEAD {
      // evhttp would send the body after all, and leave out its length.
      unsafe evhttp_add_header(
        evhttp_request_get_output_headers(request), "Content-Length", "\(response.body.count)")
    } else {
      unsafe evbuffer_add(body, response.body, response.body.count)
    }
    release()
    unsafe evhttp_send_reply(
      request, Int32(response.status), reasonPhrase(response.status), body)
    stopReading()
  }

  /// Sends the head of an answer that comes in pieces.
  func begin(status: Int, headers: [HTTPField], keepAlive: Bool) {
    guard let request = unsafe current, !isStreaming else { return }
    isStreaming = true
    sendsKeepAlive = keepAlive
    unsafe setHeaders(headers, on: request)
    unsafe evhttp_send_reply_start(request, Int32(status), reasonPhrase(status))
    stopReading()
    lastWrite = .now
  }

  /// Sends a piece of the body.
  func write(_ bytes: [UInt8]) {
    guard let request = unsafe current, isStreaming, !bytes.isEmpty else { return }
    let piece = unsafe evbuffer_new()
    defer { unsafe evbuffer_free(piece) }
    unsafe evbuffer_add(piece, bytes, bytes.count)
    acceptedByteCount += bytes.count
    lastWrite = .now
    unsafe evhttp_send_reply_chunk_with_cb(
      request, piece,
      { _, context in
        unsafe EventConnection.from(context)?.didDrain()
      }, Unmanaged.passUnretained(self).toOpaque())
    stopReading()
  }

  /// Ends the body.
  func end() {
    guard let request = unsafe current, isStreaming else { return }
    release()
    unsafe evhttp_send_reply_end(request)
    stopReading()
  }

  /// evhttp reads during an answer only to see the client leave; `hangup` sees that better, and
  /// what a client sends ahead stays in its socket.
  private func stopReading() {
    guard completedCount < byteGuard.framedCount else { return }
    unsafe bufferevent_disable(bufferEvent, Int16(EV_READ))
  }

  /// The handler is done with the request; evhttp sends the rest.
  private func release() {
    unsafe current = nil
    if exchange != nil { loop.forget(exchange: number) }
    exchange = nil
    task = nil
    isStreaming = false
    if unsafe stir != nil { unsafe event_del(stir) }
    if unsafe hangup != nil { unsafe event_del(hangup) }
  }

  private func didDrain() {
    let sent = acceptedByteCount
    acceptedByteCount = 0
    exchange?.didSend(sent)
  }

  private func didComplete() {
    completedCount += 1
  }

  // MARK: Leaving

  private func didStir() {
    if cevent_is_dead(descriptor) != 0 {
      close()
    } else if cevent_has_bytes(descriptor) != 0 {
      unsafe event_add(hangup, nil)
    } else {
      didHangUp()
    }
  }

  /// The client has closed its sending half. It may still read the answer (a half-closed
  /// connection), or be gone: a byte sent to a client that is gone comes back as a reset.
  private func didHangUp() {
    guard let request = unsafe current, !hasHungUp else { return }
    hasHungUp = true
    if isStreaming {
      if sendsKeepAlive { write(Array(":\n\n".utf8)) }
    } else if unsafe isSecure || request.pointee.minor == 0 {
      close()
      return
    } else {
      let interim = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
      _ = unsafe cevent_send_now(descriptor, interim, interim.count)
    }
    loop.suspect(self)
  }

  /// Closes the connection if the client has left it altogether.
  func closeIfDead() {
    if unsafe current != nil && cevent_is_dead(descriptor) != 0 { close() }
  }

  private func didClose() {
    loop.remove(self)
    unsafe cevent_free_event(stir)
    unsafe cevent_free_event(hangup)
    exchange?.didClose()
    task?.cancel()
    if exchange != nil { loop.forget(exchange: number) }
    exchange = nil
    task = nil
    // After a network error evhttp lets go of a request that is being answered.
    if let request = unsafe current, unsafe evhttp_request_get_connection(request) == nil {
      unsafe evhttp_request_free(request)
    }
    unsafe current = nil
  }

  // MARK: Time

  /// Called every second: ends what takes too long, keeps quiet streams alive.
  func sweep(now: ContinuousClock.Instant) {
    if let lingerUntil {
      if now >= lingerUntil { close() }
      return
    }
    if unsafe current != nil {
      let interval = loop.options.keepAliveSeconds
      if isStreaming && sendsKeepAlive && interval > 0 && now - lastWrite >= .seconds(interval) {
        write(Array(": keep-alive\n\n".utf8))
      }
      closeIfDead()
      return
    }
    guard let requestStarted, byteGuard.framedCount == completedCount else { return }
    let taken = now - requestStarted
    let allowed =
      byteGuard.isReadingBody
      ? loop.options.bodySeconds + Double(bodyByteCount) / 65_536 : loop.options.headSeconds
    if taken > .seconds(allowed) {
      refuse(
        RequestGuard.Rejection(status: 408, reason: "The request took too long to arrive."))
    }
  }
}

private func methodName(_ type: evhttp_cmd_type) -> String {
  switch type {
  case EVHTTP_REQ_GET: "GET"
  case EVHTTP_REQ_POST: "POST"
  case EVHTTP_REQ_HEAD: "HEAD"
  case EVHTTP_REQ_PUT: "PUT"
  case EVHTTP_REQ_DELETE: "DELETE"
  case EVHTTP_REQ_OPTIONS: "OPTIONS"
  case EVHTTP_REQ_TRACE: "TRACE"
  case EVHTTP_REQ_CONNECT: "CONNECT"
  case EVHTTP_REQ_PATCH: "PATCH"
  default: "UNKNOWN"
  }
}
