import ClusterControl
import CommandLineInterface
import Disaggregation
import Foundation
import Inference
import Kernels
import ModelConfiguration
import Step3Model
import UCXTransport

/// What the processes of a cluster have in common: the file, who one is, the map, the transport.
struct ClusterNodeSetup: Sendable {
  let file: ClusterFile
  let node: ClusterNode
  let layout: ClusterLayout
  /// Routed experts of the model, 0 for one without mixtures.
  let expertCount: Int
  let identity: PeerIdentity
  /// What this process computes with: the flag's choice, or the cluster file's.
  let kernels: KernelChoice

  static let clusterFlag = Flag.string(
    "cluster", "FILE", required: true, help: "the cluster file")
  static let idFlag = Flag.string(
    "id", "NAME", required: true, help: "which node of the cluster file to be")
  static let coresFlag = Flag.integerList(
    "cores", help: "processors to run on (default: the cluster file's, or all)")

  /// Reads the file and checks it against the model.
  init(
    cluster path: String, id: String?, role: NodeRole, _ folder: ModelFolder,
    _ options: EngineOptions
  ) throws {
    let file = try ClusterFile(path: path)
    self.file = file
    node = if let id { try file.node(id, role) } else { file.nodes(role)[0] }
    let text = folder.configuration.text
    expertCount = text.isMixtureLayer.contains(true) ? text.expertCount : 0
    layout = try file.layout(expertCount: expertCount)
    kernels = options.kernels == .auto ? file.kernels ?? .auto : options.kernels
    // Both halves must round alike.
    let arithmetic = file.arithmetic(
      kernels: try KernelSet.select(kernels).name,
      activation: options.resolvedActivation(weightByteCount: folder.textByteCount))
    identity = PeerIdentity(
      id: node.id, role: role, protocolVersion: Int(WireHeader.version),
      modelHash: folder.fingerprint, shardMap: file.shardMap, arithmetic: arithmetic)
  }

  /// Restricts the process to the processors that the flag or the file names.
  func restrict(_ arguments: ParsedArguments) throws {
    let given = arguments.integers("cores")
    let cores = given.isEmpty ? node.cores : given
    let usable = ProcessorAffinity.usableCores
    if !usable.isEmpty, let missing = cores.first(where: { !usable.contains($0) }) {
      throw CommandFailure(
        .usage, code: "no_such_core",
        "node \"\(node.id)\" is to run on processor \(missing), which this process does not have; "
          + "it has \(usable.map(String.init).joined(separator: ", "))")
    }
    if !cores.isEmpty { ProcessorAffinity.restrict(to: cores) }
  }

  /// How links are made: shared memory alone where every node is at a loopback address.
  func transportSettings() -> UCXSettings {
    var settings = UCXSettings()
    settings.host = node.host
    settings.devices = node.devices
    settings.dataPorts = file.dataPorts
    let isLocal = file.nodes.allSatisfy {
      $0.host.hasPrefix("127.") || $0.host == "localhost" || $0.host == "::1"
    }
    settings.reach = isLocal ? .thisMachine : .everywhere
    return settings
  }

  /// When silent peers are given up.
  var linkTimeouts: LinkTimeouts {
    var timeouts = LinkTimeouts()
    timeouts.heartbeat = file.timeouts.heartbeat
    timeouts.suspect = file.timeouts.suspect
    timeouts.dead = file.timeouts.dead
    return timeouts
  }

  /// A desk that begins with the file's map.
  func makeMapDesk() -> MapDesk { MapDesk(layout.map, expertCount: expertCount) }

  /// How an attention node uses the ffn nodes.
  func remoteOptions(roundsActivations: Bool) -> RemoteOptions {
    let nodes = layout.holders.enumerated().flatMap { shard, ids in
      ids.compactMap { id in
        ClusterControlPlane.number(of: id, in: file).map {
          ServingNode(number: $0, name: id, shard: shard)
        }
      }
    }
    // With one shard there is one sum to send, and rounding it would save only half.
    let isOneShard = layout.map.parts.count == 1
    let format: ExchangeFormat =
      switch file.exchange {
      case .exact: .exact(roundsActivations: roundsActivations)
      case .bf16: isOneShard ? .exact(roundsActivations: roundsActivations) : .bfloat16
      case .fp8: .fast
      }
    var options = RemoteOptions(map: layout.map, nodes: nodes, format: format)
    options.policy.answerDeadline = file.timeouts.exchange
    options.policy.hold = file.timeouts.hold
    options.timeouts = linkTimeouts
    return options
  }

  /// Makes the feed-forward half of an attention node, on the engine's thread.
  func makeFactory(
    _ board: PeerBoard, _ maps: MapDesk, _ desk: TraceDesk, _ exchange: ExchangeDesk, _ log: Log
  ) -> FeedForwardFactory {
    let setup = self
    return { context in
      let control = ClusterControlPlane(
        setup.file, identity: setup.identity, board: board, desk: maps
      ) { log.info("\(setup.node.id): \($0)") }
      let remote = try RemoteFeedForward(
        context: context,
        options: setup.remoteOptions(roundsActivations: context.activation == .bfloat16),
        transport: UCXTransport(setup.transportSettings()), control: control)
      return WatchedFeedForward(remote, desk, exchange)
    }
  }
}
