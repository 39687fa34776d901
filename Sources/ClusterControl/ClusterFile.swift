import JSONScanning
package import Kernels

/// A cluster as its file describes it: who is in it, who holds what, and how they talk.
///
/// Everything that a process must know before it meets its peers; every process of a cluster reads
/// the same file.
package struct ClusterFile: Sendable, Equatable {
  /// Where the file lies, for messages.
  package var path: String
  /// The nodes in the file's order.
  package var nodes: [ClusterNode]
  /// The secret that proves membership, at least 16 bytes.
  package var key: [UInt8]
  /// How activations and results travel.
  package var exchange = ExchangeChoice.exact
  /// What all processes compute with; nil lets each take the best of its machine.
  package var kernels: KernelChoice?
  /// Whether processes may compute with different kernels, whose last bits differ.
  package var mixesKernels = false
  /// Micro-batches per step, 1...8; nil lets the program choose.
  package var microBatchCount: Int?
  /// The ffn nodes that dense layers are spread over, in equal slices; nil spreads them evenly.
  package var denseNodes: [String]?
  /// The ffn nodes that shared experts are spread over, in equal slices; nil spreads them evenly.
  package var sharedNodes: [String]?
  /// Ports for data connections between machines, for firewalls; nil lets the system choose.
  package var dataPorts: ClosedRange<Int>?
  /// How long everything may take.
  package var timeouts = ClusterTimeouts()

  /// A cluster of these nodes with the usual choices.
  package init(path: String, nodes: [ClusterNode], key: [UInt8]) {
    self.path = path
    self.nodes = nodes
    self.key = key
  }

  /// The nodes of one role, in the file's order.
  package func nodes(_ role: NodeRole) -> [ClusterNode] { nodes.filter { $0.role == role } }

  /// The node called `id`.
  package func node(_ id: String) throws(ClusterFileError) -> ClusterNode {
    if let node = nodes.first(where: { $0.id == id }) { return node }
    let known = nodes.map(\.id)
    throw .unknownNode(path: path, id: id, known: known, nearest: nearestName(to: id, among: known))
  }

  /// The node called `id`, which must have this role.
  package func node(_ id: String, _ role: NodeRole) throws(ClusterFileError) -> ClusterNode {
    let node = try node(id)
    guard node.role == role else {
      throw .wrongRole(path: path, id: id, role: node.role.rawValue, wanted: role.rawValue)
    }
    return node
  }
}

extension ClusterFile {
  /// What peers must compute alike, for a process with these kernels and this precision.
  package func arithmetic(kernels: String, activation: ActivationType) -> String {
    "\(mixesKernels ? "" : "kernels \(kernels), ")\(activation.rawValue) activations"
  }
}

/// What a node does.
package enum NodeRole: String, Sendable, CaseIterable {
  /// Keeps KV caches, computes attention, talks to users.
  case attention
  /// Holds experts and other feed-forward weights.
  case ffn
  /// One address for many attention nodes.
  case gateway
}

/// How activations go out and results come back.
package enum ExchangeChoice: String, Sendable, CaseIterable {
  /// BF16 or Float32 out as the layers compute it, Float32 back: the same bits as in one process.
  case exact
  /// BF16 out, BF16 back.
  case bf16
  /// E4M3 with scales out, BF16 back.
  case fp8
}

/// One process of a cluster.
package struct ClusterNode: Sendable, Equatable {
  /// Its name: letters, digits, `-`, `_` and `.`.
  package var id: String
  package var role: NodeRole
  /// The address that others reach it at.
  package var host: String
  /// Attention and gateway nodes: the HTTP port. Ffn nodes: the port of the exchange.
  package var port: Int
  /// Network devices to use; empty lets the program choose.
  package var devices: [String] = []
  /// Experts it holds, ascending and apart; nil for all.
  package var experts: [ClosedRange<Int>]?
  /// Which slice of every matrix it holds; nil for whole ones.
  package var slice: NodeSlice?
  /// Processor numbers to run on; empty for all.
  package var cores: [Int] = []

  /// A node that holds everything its role can hold.
  package init(id: String, role: NodeRole, host: String, port: Int) {
    self.id = id
    self.role = role
    self.host = host
    self.port = port
  }

  /// `host:port`, with brackets around an IPv6 address.
  package var address: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// Whether it holds (its slice of) this expert.
  package func holds(expert: Int) -> Bool {
    experts.map { $0.contains { $0.contains(expert) } } ?? true
  }
}

/// Slice `index` of `count` equal ones along the intermediate dimension.
package struct NodeSlice: Sendable, Equatable, Hashable {
  /// 0 ..< count.
  package var index: Int
  /// 2 or 4, so that slices are subtrees of the fixed summation tree.
  package var count: Int

  /// Slice `index` of `count`.
  package init(index: Int, count: Int) {
    self.index = index
    self.count = count
  }
}

/// How long things may take; all in milliseconds in the file.
package struct ClusterTimeouts: Sendable, Equatable {
  /// Between two heartbeats on a silent link.
  package var heartbeat = Duration.milliseconds(100)
  /// Silence after which a peer is suspected.
  package var suspect = Duration.milliseconds(300)
  /// Silence after which a peer is dead.
  package var dead = Duration.seconds(1)
  /// For a whole handshake.
  package var handshake = Duration.seconds(2)
  /// For one micro-batch's answer, at least.
  package var exchange = Duration.seconds(10)
  /// How long requests wait for the return of a peer that nobody can stand in for.
  package var hold = Duration.zero

  package init() {}
}
