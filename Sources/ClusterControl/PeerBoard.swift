package import JSONScanning
import Synchronization

/// How one peer stands, for people and for the gateway.
package struct PeerStatus: Sendable, Equatable {
  /// Where the link to the peer is.
  package enum State: Sendable, Equatable {
    /// Nothing has been heard yet, or the next try is due.
    case unreachable(reason: String)
    /// The handshake is on its way.
    case greeting
    /// It takes part.
    case admitted
    /// One side does not want the other.
    case refused(reason: String)
  }

  /// The node's name in the cluster file.
  package var id: String
  /// Where it is or should be.
  package var address: String
  package var state: State
  /// How often it has been lost after it was admitted.
  package var lossCount = 0
  /// How often it was admitted.
  package var admissionCount = 0

  /// Whether it takes part.
  package var isAdmitted: Bool { state == .admitted }
}

/// What a control plane knows of its peers, readable from any thread.
package final class PeerBoard: Sendable {
  private struct Content {
    var peers: [PeerStatus] = []
    var epoch = 0
    var ownReport: JSONValue?
    var reports: [String: JSONValue] = [:]
  }

  private let content: Mutex<Content>

  /// A board for the peers of a node of this role, none of them reached.
  package convenience init(_ file: ClusterFile, role: NodeRole) {
    self.init(file.nodes(role == .ffn ? .attention : .ffn))
  }

  init(_ nodes: [ClusterNode]) {
    content = Mutex(
      Content(
        peers: nodes.map {
          PeerStatus(
            id: $0.id, address: $0.address, state: .unreachable(reason: "not tried yet"))
        }))
  }

  /// How all peers stand, in the cluster file's order.
  package var peers: [PeerStatus] { content.withLock { $0.peers } }
  /// A number that rises whenever a peer comes or goes.
  package var epoch: Int { content.withLock { $0.epoch } }
  /// The peers that do not take part.
  package var missing: [PeerStatus] { peers.filter { !$0.isAdmitted } }

  /// What this process tells its peers about itself, once a second.
  package var ownReport: JSONValue? {
    get { content.withLock { $0.ownReport } }
    set { content.withLock { $0.ownReport = newValue } }
  }

  /// What peers told of themselves last, by id; only of those that take part.
  package var reports: [String: JSONValue] {
    content.withLock { content in
      let present = Set(content.peers.filter(\.isAdmitted).map(\.id))
      return content.reports.filter { present.contains($0.key) }
    }
  }

  func take(_ report: JSONValue, of id: String) {
    content.withLock { $0.reports[id] = report }
  }

  /// Notes a change; whether it is one.
  func set(_ id: String, _ state: PeerStatus.State) -> Bool {
    content.withLock { content in
      guard let index = content.peers.firstIndex(where: { $0.id == id }),
        content.peers[index].state != state
      else { return false }
      if state == .admitted { content.peers[index].admissionCount += 1 }
      if content.peers[index].isAdmitted { content.peers[index].lossCount += 1 }
      if state == .admitted || content.peers[index].isAdmitted { content.epoch += 1 }
      content.peers[index].state = state
      return true
    }
  }
}
