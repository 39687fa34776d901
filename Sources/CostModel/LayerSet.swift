/// Which layers a group of equal ones stands for, written as in "0-3,60", "3-47/4" or "rest".
///
/// The catalogue keeps positions, not counts, because a pipeline feels where slow layers lie:
/// attention and feed-forward groups are matched layer by layer.
struct LayerSet {
  let indices: [Int]

  /// The layers of `texts`, one per group: every layer of the model in exactly one group.
  static func partition(
    _ texts: [String], layerCount: Int, model: String, part: String
  ) throws(CostModelError) -> [LayerSet] {
    func failure(_ fact: String) -> CostModelError {
      .layersDoNotPartition(model: model, part: part, fact: fact)
    }
    var owner = [Int?](repeating: nil, count: layerCount)
    for (group, text) in texts.enumerated() where text != "rest" {
      for layer in try indices(in: text, failure: failure) {
        guard layer < layerCount else {
          throw failure("layer \(layer) of \"\(text)\" is beyond the \(layerCount) layers")
        }
        guard owner[layer] == nil else { throw failure("layer \(layer) is in two groups") }
        owner[layer] = group
      }
    }
    if let rest = texts.firstIndex(of: "rest") {
      for layer in 0..<layerCount where owner[layer] == nil { owner[layer] = rest }
    }
    if let missing = owner.firstIndex(where: { $0 == nil }) {
      throw failure("layer \(missing) is in no group")
    }
    return texts.indices.map { group in
      LayerSet(indices: (0..<layerCount).filter { owner[$0] == group })
    }
  }

  private static func indices(
    in text: String, failure: (String) -> CostModelError
  ) throws(CostModelError) -> [Int] {
    var layers: [Int] = []
    for item in text.split(separator: ",") {
      let strided = item.split(separator: "/", omittingEmptySubsequences: false)
      let ends = strided[0].split(separator: "-", omittingEmptySubsequences: false)
      guard let first = ends.first.flatMap({ Int($0) }), let last = ends.last.flatMap({ Int($0) }),
        ends.count <= 2, strided.count <= 2, first >= 0, last >= first, last < 100_000
      else { throw failure("\"\(text)\" is no set of layers such as 0-3,60 or 3-47/4") }
      let step = strided.count == 2 ? Int(strided[1]) : 1
      guard let step, step > 0 else { throw failure("\"\(text)\" has no valid stride") }
      layers += Array(stride(from: first, through: last, by: step))
    }
    return layers
  }
}
