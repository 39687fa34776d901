package import JSONScanning

extension ModelArchitecture {
  /// The model as a model file's entry holds it.
  package var document: JSONValue {
    .members([
      ("name", .string(name)), ("title", .string(title)), ("layers", .integer(layerCount)),
      ("hidden", .integer(hiddenDimension)), ("vocabulary", .integer(vocabularySize)),
      ("contextLimit", .integer(contextLimit)),
      ("tiedEmbeddings", hasTiedEmbeddings ? .boolean(true) : nil),
      ("attention", .array(attention.map(\.document))),
      ("feedForward", .array(feedForward.map(\.document))), ("evidence", .string(evidence)),
    ])
  }
}

extension AttentionGroup {
  fileprivate var document: JSONValue {
    var members: [(String, JSONValue?)] = [
      ("layers", .string(LayerSet(indices: layers).text)), ("kind", .string(shape.family)),
    ]
    switch shape {
    case .multiMatrix(let heads, let dimension, let rank):
      members += [
        ("heads", .integer(heads)), ("headDimension", .integer(dimension)),
        ("queryRank", .integer(rank)),
      ]
    case .latent(let heads, let queryRank, let rank, let rope, let nope, let value):
      members += [
        ("heads", .integer(heads)), ("queryRank", queryRank.map { .integer($0) }),
        ("kvRank", .integer(rank)), ("ropeDimension", .integer(rope)),
        ("nopeDimension", .integer(nope)), ("valueDimension", .integer(value)),
      ]
    case .grouped(let heads, let kvHeads, let dimension):
      members += [
        ("heads", .integer(heads)), ("kvHeads", .integer(kvHeads)),
        ("headDimension", .integer(dimension)),
      ]
    case .lightning(let heads, let dimension):
      members += [("heads", .integer(heads)), ("headDimension", .integer(dimension))]
    }
    members += [
      ("window", window.map { .integer($0) }),
      (shape.isRecurrent ? "stateBytes" : "kvBytes", .finite(storageByteCount)),
    ]
    return .members(members)
  }
}

extension FeedForwardGroup {
  fileprivate var document: JSONValue {
    let layers = JSONValue.string(LayerSet(indices: layers).text)
    guard isMoE else {
      return .members([
        ("layers", layers), ("kind", .string("dense")), ("intermediate", .integer(denseWidth)),
      ])
    }
    return .members([
      ("layers", layers), ("kind", .string("moe")), ("experts", .integer(expertCount)),
      ("topK", .integer(topK)), ("intermediate", .integer(expertWidth)),
      ("sharedExperts", .integer(sharedExpertCount)),
      ("sharedIntermediate", .integer(sharedWidth)),
    ])
  }
}

extension LayerSet {
  /// The set as text: runs as first-last, everything else one by one.
  var text: String {
    var parts: [String] = []
    var index = 0
    while index < indices.count {
      var last = index
      while last + 1 < indices.count, indices[last + 1] == indices[last] + 1 { last += 1 }
      parts.append(
        last == index ? "\(indices[index])" : "\(indices[index])-\(indices[last])")
      index = last + 1
    }
    return parts.joined(separator: ",")
  }
}
