// How messages get from one process to another.
//
// A transport belongs to one thread and never calls back. The thread lets it work (`progress`),
// takes what happened (`nextEvent`), and sleeps in `wait`. So nothing re-enters, a library's
// callbacks only queue, the exchange above is a plain loop, and a simulation with a virtual clock
// is one more implementation.
//
// Two kinds of messages. Bulk ones (`dispatch`, `combine`) carry a payload from registered memory
// into registered memory: the receiver is told of the arrival and says where it shall land, which
// suits both eager data (one copy) and rendezvous (none). All others are small and rare; their
// payload comes in the event.

/// One connection to a peer, as this process numbers it; a number is never used again.
package struct LinkID: Hashable, Comparable, Sendable {
  /// The number.
  package let value: UInt32
  /// Wraps a number.
  package init(_ value: UInt32) { self.value = value }
  package static func < (left: LinkID, right: LinkID) -> Bool { left.value < right.value }
}

/// The caller's name for a bulk send, given back by `.sent`.
package struct SendToken: Hashable, Sendable {
  /// The caller's number.
  package let value: UInt64
  /// Wraps a number.
  package init(_ value: UInt64) { self.value = value }
}

/// A bulk message whose payload waits to be received.
package struct ArrivalID: Hashable, Sendable {
  /// The transport's number.
  package let value: UInt64
  /// Wraps a number.
  package init(_ value: UInt64) { self.value = value }
}

/// Why a link ended.
package enum LinkLoss: Error, Equatable, Sendable {
  /// This side closed it.
  case closed
  /// The other side closed it in good order.
  case closedByPeer
  /// Nobody answered at the address.
  case unreachable(reason: String)
  /// The connection broke: the peer's process or the network is gone.
  case broken(reason: String)
  /// Bytes came that are not of this protocol.
  case malformed(WireError)
}

/// What happened on a transport.
package enum TransportEvent: Equatable, Sendable {
  /// A `connect` of this side succeeded.
  case connected(LinkID)
  /// A peer connected; `address` is for messages to people.
  case accepted(LinkID, address: String)
  /// A small message, with its payload.
  case control(LinkID, WireHeader, payload: [UInt8])
  /// A bulk message's payload waits: answer with `receive` or `discard`.
  case arrived(LinkID, WireHeader, ArrivalID)
  /// The payload of an arrival lies where `receive` wanted it.
  case received(LinkID, WireHeader, ArrivalID)
  /// The payload of a bulk send is no longer needed.
  case sent(LinkID, SendToken)
  /// The link is over: nothing more comes from it, and all memory that was sent or received into
  /// on it belongs to the caller again, whether or not a `.sent` or `.received` came.
  case lost(LinkID, LinkLoss)
}

/// What a transport cannot do.
package enum TransportError: Error, Equatable, Sendable {
  /// The library underneath cannot be used.
  case unavailable(reason: String)
  /// An address that cannot be read or resolved.
  case badAddress(address: String, reason: String)
  /// Nothing can listen at the address.
  case cannotListen(address: String, reason: String)
  /// Memory for slots cannot be had.
  case outOfMemory(byteCount: Int)
  /// Memory cannot be registered with the device.
  case cannotRegister(byteCount: Int, reason: String)
  /// The link is over or never was; its `.lost` comes or has come.
  case noSuchLink(LinkID)
}

extension TransportError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unavailable(let reason): "the transport cannot be used: \(reason)"
    case .badAddress(let address, let reason):
      "\(address): not an address to connect to (\(reason)); write host:port"
    case .cannotListen(let address, let reason):
      "\(address): cannot listen (\(reason)); is the port taken by another process?"
    case .outOfMemory(let byteCount):
      "\(byteCount) bytes of slots cannot be had; lower the tokens per step or the micro-batches"
    case .cannotRegister(let byteCount, let reason):
      "\(byteCount) bytes cannot be registered for transfers (\(reason)); raise the limit of "
        + "locked memory (ulimit -l)"
    case .noSuchLink(let link): "link \(link.value) is closed"
    }
  }
}

extension LinkLoss: CustomStringConvertible {
  package var description: String {
    switch self {
    case .closed: "closed by this side"
    case .closedByPeer: "closed by the peer"
    case .unreachable(let reason): "not reachable (\(reason))"
    case .broken(let reason): "broken (\(reason))"
    case .malformed(let error): "closed after a malformed message (\(error))"
    }
  }
}

/// Sends and receives messages; owned by one thread, which calls everything but `waker`.
///
/// Order: messages of one link arrive in the order sent, unless a simulation says otherwise; the
/// exchange above does not rely on it.
package protocol Transport: AnyObject {
  /// Time since some start, monotonic: the one clock of everything that uses this transport.
  var now: Duration { get }

  /// Wakes `wait` from any other thread.
  var waker: any TransportWaker { get }

  /// What carries a link, for people: "shm", "tcp eth0", "loopback".
  func carrier(of link: LinkID) -> String

  /// Zeroed memory for payloads, registered for as long as it lives.
  func register(byteCount: Int) throws(TransportError) -> RegisteredMemory

  /// Accepts peers at `address` (`host:port` for networks) from now on.
  func listen(at address: String) throws(TransportError)

  /// Begins to connect; ends in `.connected` or `.lost`.
  func connect(to address: String) throws(TransportError) -> LinkID

  /// Ends a link at once, without waiting for the peer; ends in `.lost(_, .closed)`.
  func close(_ link: LinkID)

  /// Sends a bulk message. `payload` must not be written until `.sent` or `.lost`; the header's
  /// payload size must be the payload's.
  func send(
    _ header: WireHeader, payload: RegisteredSlice, on link: LinkID, token: SendToken
  ) throws(TransportError)

  /// Sends a small message; `payload`, of at most `WireHeader.controlPayloadLimit`, is copied.
  func sendControl(_ header: WireHeader, payload: [UInt8], on link: LinkID) throws(TransportError)

  /// Takes an arrival's payload into `slice`, of exactly its size; ends in `.received` or `.lost`.
  func receive(_ arrival: ArrivalID, into slice: RegisteredSlice) throws(TransportError)

  /// Drops an arrival.
  func discard(_ arrival: ArrivalID)

  /// Moves bytes; cheap when there is nothing to do, so it may be called between tiles of compute.
  func progress()

  /// What happened next, oldest first; nil when all is told.
  func nextEvent() -> TransportEvent?

  /// Waits until there may be an event, the waker is used, or it is `deadline`: spins first, then
  /// sleeps.
  func wait(until deadline: Duration)
}

/// Wakes a transport's thread.
package protocol TransportWaker: Sendable {
  /// Makes the present or the next `wait` return.
  func wake()
}
