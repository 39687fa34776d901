// Who may talk: handshake, membership, reconnecting. The exchange knows of peers only what
// a control plane tells it, and the control plane never sees an activation. It is asked and
// answers with actions, so that it needs no transport and no clock of its own.

/// A peer that has proved who it is.
package struct PeerNode: Hashable, Sendable {
  /// Its number in the cluster: the same in every process, also after a restart.
  package let number: UInt16
  /// Its name, for people.
  package let name: String

  /// A peer.
  package init(number: UInt16, name: String) {
    self.number = number
    self.name = name
  }
}

/// What happened to a link, for the control plane.
package enum ControlEvent: Equatable, Sendable {
  /// A connection that this side asked for stands.
  case connected(LinkID)
  /// A peer connected.
  case accepted(LinkID, address: String)
  /// A small message that is not the exchange's; before admission, any small message.
  case message(LinkID, WireHeader, payload: [UInt8])
  /// A link is over, admitted or not.
  case lost(LinkID, LinkLoss)
  /// This process holds its shard of a map that the peer told it of, or does not, and why.
  case held(LinkID, ExpertMap, refusal: String?)
}

/// What the control plane wants done.
package enum ControlAction: Equatable, Sendable {
  /// Connect; the link's number is told by `connecting`.
  case connect(address: String)
  /// Send a small message.
  case send(WireHeader, payload: [UInt8], on: LinkID)
  /// From now on the link carries the exchange.
  case admit(LinkID, PeerNode)
  /// End the link.
  case close(LinkID)
  /// Tell the peers on all admitted links that this process leaves, and take nothing new.
  case drain
  /// Hold this process's shard of another map as well, and tell by `held`, for the peer of a link.
  case hold(ExpertMap, LinkID)
  /// Use another map from the next step on: every node holds it.
  case adopt(ExpertMap)
}

/// Decides which links carry the exchange.
package protocol ControlPlane: AnyObject {
  /// This process's number in the cluster, for the headers it sends.
  var ownNumber: UInt16 { get }
  /// A `connect` action has become `link`.
  func connecting(_ link: LinkID, to address: String)
  /// Takes an event.
  func handle(_ event: ControlEvent, now: Duration) -> [ControlAction]
  /// Does what is due: connects, times out handshakes.
  func advance(to now: Duration) -> [ControlAction]
  /// When `advance` is due next; nil for never.
  var nextDeadline: Duration? { get }
}

/// A control plane for processes that trust each other: everybody says its number and is let in.
///
/// For one process that runs both halves, for benchmarks and tests; clusters have a handshake.
package final class OpenControlPlane: ControlPlane {
  /// This process's number.
  package let ownNumber: UInt16
  private let name: String
  private let retryInterval: Duration
  private var waiting: [(address: String, since: Duration)] = []
  private var links: [(link: LinkID, address: String)] = []

  /// A plane that connects to `addresses`, and again when a link is lost.
  package init(
    number: UInt16, name: String, connectingTo addresses: [String] = [],
    retryInterval: Duration = .milliseconds(50)
  ) {
    ownNumber = number
    self.name = name
    self.retryInterval = retryInterval
    waiting = addresses.map { ($0, .zero) }
  }

  /// Remembers where the link goes.
  package func connecting(_ link: LinkID, to address: String) { links.append((link, address)) }

  /// Says hello on a new link, and lets in who says it.
  package func handle(_ event: ControlEvent, now: Duration) -> [ControlAction] {
    switch event {
    case .connected(let link):
      return [.send(hello(.hello), payload: Array(name.utf8), on: link)]
    case .accepted, .held: return []
    case .message(let link, let header, let payload):
      let peer = PeerNode(number: header.sender, name: String(decoding: payload, as: UTF8.self))
      switch header.kind {
      case .hello:
        return [
          .send(hello(.welcome), payload: Array(name.utf8), on: link), .admit(link, peer),
        ]
      case .welcome: return [.admit(link, peer)]
      default: return [.close(link)]
      }
    case .lost(let link, _):
      guard let index = links.firstIndex(where: { $0.link == link }) else { return [] }
      waiting.append((links.remove(at: index).address, now + retryInterval))
      return []
    }
  }

  /// Connects where it is time.
  package func advance(to now: Duration) -> [ControlAction] {
    let due = waiting.filter { $0.since <= now }
    waiting.removeAll { $0.since <= now }
    return due.map { .connect(address: $0.address) }
  }

  /// The next try.
  package var nextDeadline: Duration? { waiting.map(\.since).min() }

  private func hello(_ kind: MessageKind) -> WireHeader {
    var header = WireHeader(kind: kind)
    header.sender = ownNumber
    header.payloadByteCount = UInt32(name.utf8.count)
    return header
  }
}
