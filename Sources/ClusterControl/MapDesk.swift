package import Disaggregation
package import JSONScanning
import Synchronization

// A change of the expert map while the cluster serves:
//
//     somebody → attention node   a map with a higher number (`propose`)
//     attention → every ffn node  {"hold": map}; it reads its experts' weights
//     ffn → attention             {"held": number}, or {"refused": number, "reason": …}
//
// When every ffn node that takes part holds the map, the attention node uses it from its next step
// on. Nodes that come back hold the maps in use before they are let in. An attention node that
// comes back begins with the cluster file's map, which every ffn node keeps, and is told the
// newest one. Results do not depend on the map: attention nodes may change at different times.

extension ExpertMap {
  /// The map's number, and what of it may change: the experts of each shard.
  package var json: JSONValue {
    let shards = parts.map { part -> JSONValue in
      .array(part.experts.map { [.integer($0.lowerBound), .integer($0.upperBound)] })
    }
    return ["epoch": .integer(Int(epoch)), "shards": .array(shards)]
  }

  /// Reads a map with the shards of `base`, whose experts alone may differ; nil for what is none.
  package init?(_ json: JSONValue?, like base: ExpertMap) {
    guard let epoch = json?["epoch"]?.integer.flatMap({ UInt32(exactly: $0) }),
      let shards = json?["shards"]?.array, shards.count == base.parts.count
    else { return nil }
    self = base
    self.epoch = epoch
    for (shard, list) in shards.enumerated() {
      guard let list = list.array else { return nil }
      var experts: [Range<Int>] = []
      for pair in list {
        guard let bounds = pair.array?.compactMap(\.integer), bounds.count == 2,
          bounds[0] >= 0, bounds[0] < bounds[1]
        else { return nil }
        experts.append(bounds[0]..<bounds[1])
      }
      parts[shard].experts = experts
    }
  }
}

/// The expert maps that an attention node uses, wants and wanted, readable from any thread.
package final class MapDesk: Sendable {
  private struct Content {
    var inUse: [ExpertMap]
    var proposed: ExpertMap?
    var refusal: String?
  }

  /// The cluster file's map.
  package let base: ExpertMap
  private let expertCount: Int
  private let content: Mutex<Content>

  /// A desk that begins with the cluster file's map of a model with `expertCount` routed experts.
  package init(_ base: ExpertMap, expertCount: Int) {
    self.base = base
    self.expertCount = expertCount
    content = Mutex(Content(inUse: [base]))
  }

  /// The map in use.
  package var current: ExpertMap { content.withLock { $0.inUse[$0.inUse.count - 1] } }
  /// The maps that steps may still use, oldest first: the one in use and the one before.
  package var inUse: [ExpertMap] { content.withLock { $0.inUse } }
  /// The map to change to.
  package var proposed: ExpertMap? { content.withLock { $0.proposed } }

  /// Asks for a change; why it cannot be, or nil.
  package func propose(_ map: ExpertMap) -> String? {
    do throws(ExpertMapError) { try map.check(expertCount: expertCount) } catch {
      return "\(error)"
    }
    let sums = map.partialSumLimit(expertCount: expertCount)
    if sums > WireHeader.partialLimit {
      return "a shard would send \(sums) partial sums per token, at most "
        + "\(WireHeader.partialLimit) are possible; its experts are too scattered"
    }
    return content.withLock { content in
      let newest = content.proposed ?? content.inUse[content.inUse.count - 1]
      if map == newest { return nil }
      guard map.epoch > newest.epoch else {
        return "expert map \(newest.epoch) is known here, \(map.epoch) is not newer"
      }
      content.proposed = map
      content.refusal = nil
      return nil
    }
  }

  func adopt(_ map: ExpertMap) {
    content.withLock { content in
      content.inUse = content.inUse.suffix(1) + [map]
      if content.proposed == map { content.proposed = nil }
    }
  }

  func refuse(_ epoch: UInt32, _ reason: String) {
    content.withLock { content in
      guard content.proposed?.epoch == epoch else { return }
      content.proposed = nil
      content.refusal = reason
    }
  }

  /// How it stands: `map`, `slices` (the quarters of its experts that each shard holds), and where
  /// there are such `proposed` and `refusal`.
  package var members: [(String, JSONValue)] {
    content.withLock { content in
      let map = content.inUse[content.inUse.count - 1]
      let slices = map.parts.map { part -> JSONValue in
        [.integer(part.expertQuarters.lowerBound), .integer(part.expertQuarters.upperBound)]
      }
      var members = [("map", map.json), ("slices", .array(slices))]
      if let proposed = content.proposed { members.append(("proposed", proposed.json)) }
      if let refusal = content.refusal { members.append(("refusal", .string(refusal))) }
      return members
    }
  }
}

/// What an attention node's control plane knows of the maps that its ffn nodes hold.
struct MapNews {
  let desk: MapDesk
  private var asked: [LinkID: Set<UInt32>] = [:]
  private var held: [LinkID: Set<UInt32>] = [:]

  init(_ desk: MapDesk) { self.desk = desk }

  /// Whether a link's node holds every map in use.
  func holdsAll(_ link: LinkID) -> Bool {
    desk.inUse.allSatisfy { $0.epoch == desk.base.epoch || holds($0, link) }
  }

  func holds(_ map: ExpertMap, _ link: LinkID) -> Bool {
    held[link]?.contains(map.epoch) == true
  }

  mutating func note(_ epoch: UInt32, heldBy link: LinkID) {
    held[link, default: []].insert(epoch)
  }

  mutating func forget(_ link: LinkID) {
    asked[link] = nil
    held[link] = nil
  }

  /// The maps that a link's node has still to be asked to hold.
  mutating func toAsk(_ link: LinkID) -> [ExpertMap] {
    let wanted = desk.inUse + (desk.proposed.map { [$0] } ?? [])
    let new = wanted.filter {
      $0.epoch != desk.base.epoch && asked[link]?.contains($0.epoch) != true
    }
    asked[link, default: []].formUnion(new.map(\.epoch))
    return new
  }
}
