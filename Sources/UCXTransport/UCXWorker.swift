import CUCX
import Disaggregation
import Tensors

/// An endpoint as the library names it; a plain number to everybody else.
struct EndpointKey: Hashable, Sendable {
  let value: UInt

  init(_ handle: ucp_ep_h) { value = UInt(bitPattern: handle) }

  fileprivate var handle: ucp_ep_h? { unsafe ucp_ep_h(bitPattern: value) }
}

/// What callbacks have told and nobody has taken yet: outlives its worker, whose end may call back.
private final class UCXSignalQueue {
  var signals: [UCXSignal] = []
}

/// What the library told in a callback. Callbacks only queue these: they neither close nor send.
enum UCXSignal {
  /// A client asks to be accepted.
  case request(UCXRequest)
  /// An endpoint is broken.
  case failed(EndpointKey, ucs_status_t)
  /// The other side has taken this connection.
  case greeting(EndpointKey)
  /// The other side closes in good order.
  case farewell(EndpointKey)
  /// A small message.
  case control(EndpointKey, WireHeader, [UInt8])
  /// A payload that waits.
  case arrival(EndpointKey, WireHeader, UCXArrival)
  /// A message that is none of ours.
  case malformed(EndpointKey, WireError)
  /// A send or receive is over.
  case completed(UCXOperation, ucs_status_t)
}

/// A client that asks to be accepted.
@safe
struct UCXRequest {
  fileprivate let handle: ucp_conn_request_h
}

/// A payload that the library keeps until it is taken or dropped.
@safe
struct UCXArrival {
  fileprivate let data: UnsafeMutableRawPointer
  fileprivate let byteCount: Int
  fileprivate let isRendezvous: Bool
}

/// A send or receive that the library still works on: keeps its bytes alive until it is done.
final class UCXOperation {
  enum Kind {
    case small
    case send(SendToken)
    case receive(WireHeader, ArrivalID)
  }

  let link: LinkID
  let kind: Kind
  /// The header; it must outlive the send.
  fileprivate let header: OwnedBytes
  fileprivate let payload: Payload
  fileprivate let queue: UCXSignalQueue

  /// Where an operation's payload lies.
  enum Payload {
    case none
    case copied(OwnedBytes)
    case registered(RegisteredSlice)
  }

  fileprivate init(
    _ kind: Kind, link: LinkID, header: [UInt8], payload: Payload, queue: UCXSignalQueue
  ) {
    self.kind = kind
    self.link = link
    self.header = OwnedBytes(header)
    self.payload = payload
    self.queue = queue
  }
}

/// Bytes at an address that stays.
@safe
final class OwnedBytes {
  fileprivate let base: UnsafeMutableRawPointer
  fileprivate let byteCount: Int

  init(_ bytes: [UInt8]) {
    byteCount = bytes.count
    unsafe base = .allocate(byteCount: max(1, bytes.count), alignment: 16)
    unsafe bytes.withUnsafeBytes { source in
      if let start = source.baseAddress {
        unsafe base.copyMemory(from: start, byteCount: source.count)
      }
    }
  }

  deinit { unsafe base.deallocate() }
}

/// Sleeps until one of the descriptors is readable, or for `limit`.
func waitForNews(_ descriptors: [Int32], _ limit: Duration) {
  unsafe cucx_poll(descriptors, Int32(descriptors.count), limit.nanoseconds)
}

/// A worker of the library with its listeners and endpoints: the only code here that holds them.
///
/// Belongs to the transport's thread.
@safe
final class UCXWorker {
  /// The messages' ids.
  private enum MessageID {
    static let bulk: UInt32 = 1
    static let control: UInt32 = 2
    static let greeting: UInt32 = 3
    static let farewell: UInt32 = 4
  }

  let context: UCXContext
  /// Readable when an armed worker has news.
  let descriptor: Int32
  private let handle: ucp_worker_h
  private var listeners: [ucp_listener_h] = unsafe []
  private let queue = UCXSignalQueue()

  init(_ context: UCXContext) throws(TransportError) {
    self.context = context
    var handle: ucp_worker_h?
    try check(unsafe cucx_create_worker(context.handle, &handle), "creating a worker")
    guard let handle = unsafe handle else { throw .unavailable(reason: "no worker") }
    unsafe self.handle = handle
    var descriptor: Int32 = -1
    let status = unsafe ucp_worker_get_efd(handle, &descriptor)
    self.descriptor = descriptor
    try check(status, "getting the event descriptor")
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    try check(
      unsafe cucx_set_every_handler(
        handle,
        { context, _, _, _, _, parameters in
          if let parameters = unsafe parameters, let sender = unsafe cucx_sender(parameters) {
            unsafe UCXWorker.from(context)?.queue.signals.append(
              .malformed(EndpointKey(sender), .unknownMessage))
          }
          return UCS_OK
        }, context), "setting handlers")
    for id in [MessageID.bulk, MessageID.control, MessageID.greeting, MessageID.farewell] {
      try setHandler(id)
    }
  }

  deinit {
    for case .arrival(_, _, let data) in queue.signals { discard(data) }
    while let listener = unsafe listeners.popLast() { unsafe ucp_listener_destroy(listener) }
    unsafe ucp_worker_destroy(handle)
  }

  // MARK: Progress

  /// Lets the library work; whether it did anything.
  func progress() -> Bool { unsafe ucp_worker_progress(handle) != 0 }

  /// Takes what callbacks have told since the last call.
  func takeSignals() -> [UCXSignal] {
    if queue.signals.isEmpty { return [] }
    defer { queue.signals = [] }
    return queue.signals
  }

  /// Makes the descriptor readable at the next news; false when there is some already.
  func arm() -> Bool { unsafe ucp_worker_arm(handle) == UCS_OK }

  // MARK: Connections

  func listen(_ address: SocketAddress, name: String) throws(TransportError) {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    var listener: ucp_listener_h?
    let status = unsafe address.withPointer { pointer, length in
      unsafe cucx_listen(
        handle, pointer, length,
        { request, context in
          guard let request = unsafe request else { return }
          unsafe UCXWorker.from(context)?.queue.signals.append(
            .request(UCXRequest(handle: request)))
        }, context, &listener)
    }
    guard status == UCS_OK, let listener = unsafe listener else {
      throw .cannotListen(address: name, reason: statusText(status))
    }
    unsafe listeners.append(listener)
  }

  func connect(_ address: SocketAddress) throws(TransportError) -> EndpointKey {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    var endpoint: ucp_ep_h?
    let status = unsafe address.withPointer { pointer, length in
      unsafe cucx_connect(handle, pointer, length, Self.onFailure, context, &endpoint)
    }
    try check(status, "connecting")
    guard let endpoint = unsafe endpoint else { throw .unavailable(reason: "no endpoint") }
    return unsafe EndpointKey(endpoint)
  }

  /// Turns a client away.
  func reject(_ request: UCXRequest) {
    guard let listener = unsafe listeners.first else { return }
    _ = unsafe ucp_listener_reject(listener, request.handle)
  }

  /// Accepts a client, also of another worker's listener in the same context: its endpoint and
  /// address, nil when it has left already.
  func accept(_ request: UCXRequest) -> (EndpointKey, address: String)? {
    let address = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 80) { text in
      guard let base = text.baseAddress else { return "?" }
      unsafe cucx_client_address(request.handle, base, 80)
      return unsafe String(cString: base)
    }
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    var endpoint: ucp_ep_h?
    let status = unsafe cucx_accept(handle, request.handle, Self.onFailure, context, &endpoint)
    guard status == UCS_OK, let endpoint = unsafe endpoint else { return nil }
    return unsafe (EndpointKey(endpoint), address)
  }

  /// Ends an endpoint at once; ask `isClosed` with the result until it says so.
  func close(_ endpoint: EndpointKey) -> UInt {
    guard let pointer = unsafe endpoint.handle else { return 0 }
    let result = unsafe cucx_close(pointer)
    return unsafe cucx_is_request(result) != 0 ? UInt(bitPattern: result) : 0
  }

  /// Whether a close is over; asked no more afterwards.
  func isClosed(_ request: UInt) -> Bool {
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: request) else { return true }
    guard unsafe ucp_request_check_status(pointer) != UCS_INPROGRESS else { return false }
    unsafe ucp_request_free(pointer)
    return true
  }

  /// What carries the endpoint's messages, in the library's words.
  func description(of endpoint: EndpointKey) -> String {
    guard let pointer = unsafe endpoint.handle else { return "" }
    return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 8192) { text in
      guard let base = text.baseAddress else { return "" }
      unsafe cucx_describe(pointer, base, 8192)
      return unsafe String(cString: base)
    }
  }

  private static let onFailure: ucp_err_handler_cb_t = { context, endpoint, status in
    guard let endpoint = unsafe endpoint else { return }
    unsafe UCXWorker.from(context)?.queue.signals.append(.failed(EndpointKey(endpoint), status))
  }

  private static func from(_ context: UnsafeMutableRawPointer?) -> UCXWorker? {
    guard let context = unsafe context else { return nil }
    return unsafe Unmanaged<UCXWorker>.fromOpaque(context).takeUnretainedValue()
  }

  // MARK: Sending

  /// Sends a payload; ends in `.completed`, at once or later, unless it throws.
  func send(
    _ header: WireHeader, _ payload: RegisteredSlice, to endpoint: EndpointKey, _ link: LinkID,
    token: SendToken
  ) throws(TransportError) {
    let operation = UCXOperation(
      .send(token), link: link, header: header.encoded(), payload: .registered(payload),
      queue: queue)
    let registration = payload.memory.registration as? UCXRegistration
    let base = unsafe payload.memory.region.base + payload.range.lowerBound
    try unsafe post(
      operation, endpoint, MessageID.bulk, base, payload.byteCount,
      registration?.handle(context), isEager: false)
  }

  func sendControl(
    _ header: WireHeader, _ payload: [UInt8], to endpoint: EndpointKey, _ link: LinkID
  ) throws(TransportError) {
    let bytes = OwnedBytes(payload)
    let operation = UCXOperation(
      .small, link: link, header: header.encoded(), payload: .copied(bytes),
      queue: queue)
    try unsafe post(
      operation, endpoint, MessageID.control, bytes.base, bytes.byteCount, nil, isEager: true)
  }

  /// Tells a client that it was accepted.
  func greet(_ endpoint: EndpointKey, _ link: LinkID) throws(TransportError) {
    try sendEmpty(MessageID.greeting, to: endpoint, link)
  }

  /// Tells a peer that the link is about to be closed.
  func bidFarewell(_ endpoint: EndpointKey, _ link: LinkID) throws(TransportError) {
    try sendEmpty(MessageID.farewell, to: endpoint, link)
  }

  /// Sends a message of an id that means nothing, for tests.
  func sendStray(_ id: UInt16, to endpoint: EndpointKey, _ link: LinkID) throws(TransportError) {
    try sendEmpty(UInt32(id), to: endpoint, link)
  }

  private func sendEmpty(
    _ id: UInt32, to endpoint: EndpointKey, _ link: LinkID
  ) throws(TransportError) {
    let operation = UCXOperation(
      .small, link: link, header: [0x41, 0x46, 0x44, 0x31], payload: .none, queue: queue)
    try unsafe post(operation, endpoint, id, nil, 0, nil, isEager: true)
  }

  private func post(
    _ operation: UCXOperation, _ endpoint: EndpointKey, _ id: UInt32,
    _ data: UnsafeMutableRawPointer?, _ count: Int, _ memory: ucp_mem_h?, isEager: Bool
  ) throws(TransportError) {
    guard let endpoint = unsafe endpoint.handle else {
      throw .unavailable(reason: "no endpoint")
    }
    let context = unsafe Unmanaged.passRetained(operation)
    let result = unsafe cucx_send(
      endpoint, id, operation.header.base, operation.header.byteCount, data, count, memory,
      isEager ? 1 : 0,
      { request, status, context in
        unsafe ucp_request_free(request)
        unsafe UCXWorker.complete(context, status)
      }, context.toOpaque())
    if unsafe cucx_is_request(result) != 0 { return }
    // No callback comes for what is over at once.
    unsafe context.release()
    let status = unsafe cucx_status(result)
    guard status == UCS_OK else { throw .unavailable(reason: statusText(status)) }
    queue.signals.append(.completed(operation, UCS_OK))
  }

  private static func complete(_ context: UnsafeMutableRawPointer?, _ status: ucs_status_t) {
    guard let context = unsafe context else { return }
    let operation = unsafe Unmanaged<UCXOperation>.fromOpaque(context).takeRetainedValue()
    operation.queue.signals.append(.completed(operation, status))
  }

  // MARK: Receiving

  private func setHandler(_ id: UInt32) throws(TransportError) {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let callback: ucp_am_recv_callback_t =
      switch id {
      case MessageID.bulk:
        { context, header, headerCount, data, count, parameters in
          guard let worker = unsafe UCXWorker.from(context), let parameters = unsafe parameters
          else { return UCS_OK }
          return unsafe worker.takeBulk(header, headerCount, data, count, parameters)
        }
      case MessageID.control:
        { context, header, headerCount, data, count, parameters in
          guard let worker = unsafe UCXWorker.from(context), let parameters = unsafe parameters
          else { return UCS_OK }
          unsafe worker.takeControl(header, headerCount, data, count, parameters)
          return UCS_OK
        }
      case MessageID.greeting:
        { context, _, _, _, _, parameters in
          if let parameters = unsafe parameters, let sender = unsafe cucx_sender(parameters) {
            unsafe UCXWorker.from(context)?.queue.signals.append(.greeting(EndpointKey(sender)))
          }
          return UCS_OK
        }
      default:
        { context, _, _, _, _, parameters in
          if let parameters = unsafe parameters, let sender = unsafe cucx_sender(parameters) {
            unsafe UCXWorker.from(context)?.queue.signals.append(.farewell(EndpointKey(sender)))
          }
          return UCS_OK
        }
      }
    try check(unsafe cucx_set_handler(handle, id, callback, context), "setting a handler")
  }

  /// The header, or nil with a `.malformed` queued.
  private func parse(
    _ header: UnsafeRawPointer?, _ count: Int, from endpoint: EndpointKey, payloadCount: Int,
    isBulk: Bool
  ) -> WireHeader? {
    do throws(WireError) {
      let bytes = unsafe RawSpan(
        _unsafeStart: header ?? UnsafeRawPointer(handle),
        byteCount: unsafe header == nil ? 0 : count)
      let found = try WireHeader(decoding: bytes)
      guard Int(found.payloadByteCount) == payloadCount else {
        throw .payloadSize(found: payloadCount, expected: Int(found.payloadByteCount))
      }
      guard found.kind.isBulk == isBulk else {
        throw .unknownValue(
          field: "kind of a \(isBulk ? "bulk" : "small") message",
          value: Int(found.kind.rawValue))
      }
      return found
    } catch {
      queue.signals.append(.malformed(endpoint, error))
      return nil
    }
  }

  private func takeBulk(
    _ header: UnsafeRawPointer?, _ headerCount: Int, _ data: UnsafeMutableRawPointer?,
    _ count: Int, _ parameters: UnsafePointer<ucp_am_recv_param_t>
  ) -> ucs_status_t {
    guard let sender = unsafe cucx_sender(parameters), let data = unsafe data else {
      return UCS_OK
    }
    let key = unsafe EndpointKey(sender)
    guard
      let found = unsafe parse(
        header, headerCount, from: key, payloadCount: count, isBulk: true)
    else { return UCS_OK }
    let arrival = unsafe UCXArrival(
      data: data, byteCount: count, isRendezvous: cucx_is_rendezvous(parameters) != 0)
    queue.signals.append(.arrival(key, found, arrival))
    return UCS_INPROGRESS
  }

  private func takeControl(
    _ header: UnsafeRawPointer?, _ headerCount: Int, _ data: UnsafeMutableRawPointer?,
    _ count: Int, _ parameters: UnsafePointer<ucp_am_recv_param_t>
  ) {
    guard let sender = unsafe cucx_sender(parameters) else { return }
    let key = unsafe EndpointKey(sender)
    guard unsafe cucx_is_rendezvous(parameters) == 0 else {
      queue.signals.append(.malformed(key, .unknownValue(field: "rendezvous", value: 1)))
      return
    }
    guard
      let found = unsafe parse(
        header, headerCount, from: key, payloadCount: count, isBulk: false)
    else { return }
    let payload = unsafe [UInt8](UnsafeRawBufferPointer(start: data, count: count))
    queue.signals.append(.control(key, found, payload))
  }

  /// Takes an arrival's payload; ends in `.completed`, at once or later.
  func receive(
    _ arrival: UCXArrival, into slice: RegisteredSlice, _ link: LinkID, _ header: WireHeader,
    _ id: ArrivalID
  ) {
    let operation = UCXOperation(
      .receive(header, id), link: link, header: [], payload: .registered(slice),
      queue: queue)
    let target = unsafe slice.memory.region.base + slice.range.lowerBound
    guard arrival.isRendezvous else {
      unsafe target.copyMemory(from: arrival.data, byteCount: arrival.byteCount)
      unsafe ucp_am_data_release(handle, arrival.data)
      queue.signals.append(.completed(operation, UCS_OK))
      return
    }
    let registration = slice.memory.registration as? UCXRegistration
    let context = unsafe Unmanaged.passRetained(operation)
    let result = unsafe cucx_receive(
      handle, arrival.data, target, arrival.byteCount, registration?.handle(self.context),
      { request, status, _, context in
        if let request = unsafe request { unsafe ucp_request_free(request) }
        unsafe UCXWorker.complete(context, status)
      }, context.toOpaque())
    if unsafe cucx_is_request(result) != 0 { return }
    unsafe context.release()
    queue.signals.append(.completed(operation, unsafe cucx_status(result)))
  }

  /// Drops an arrival; its sender gets the memory back.
  func discard(_ arrival: UCXArrival) { unsafe ucp_am_data_release(handle, arrival.data) }
}
