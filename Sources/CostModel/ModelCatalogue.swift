package import JSONScanning

/// The models that can be asked for by name.
package struct ModelCatalogue: Sendable {
  /// The models, in the order of the file.
  package let models: [ModelArchitecture]

  /// The nine models of the report.
  package static func builtIn() throws(CostModelError) -> ModelCatalogue {
    try ModelCatalogue(parsing: PackageResources.models_json, file: "models.json")
  }

  /// Reads a model file: an object with "models".
  package init(parsing bytes: [UInt8], file: String) throws(CostModelError) {
    let document = try JSONValue(document: bytes, file: file)
    let node = try DocumentNode(document, file: file, place: "document", allowed: ["models"])
    var models: [ModelArchitecture] = []
    for (index, value) in try node.elements("models").enumerated() {
      models.append(try ModelArchitecture(value, file: file, index: index))
    }
    self.models = models
  }

  /// The model called `name`, whatever its case, or by an alias.
  package func model(named name: String) throws(CostModelError) -> ModelArchitecture {
    let wanted = name.lowercased()
    let match = models.first {
      $0.name.lowercased() == wanted || $0.aliases.contains { $0.lowercased() == wanted }
    }
    guard let match else {
      let names = models.map(\.name)
      throw .unknownModel(name: name, nearest: nearestName(to: name, among: names), known: names)
    }
    return match
  }
}

extension ModelArchitecture {
  private static let keys = [
    "name", "title", "aliases", "layers", "hidden", "vocabulary", "contextLimit",
    "trainedContext", "publishedParameters", "tiedEmbeddings", "evidence", "doubts", "attention",
    "feedForward",
  ]

  /// Reads one entry of a model file.
  package init(_ value: JSONValue, file: String, index: Int) throws(CostModelError) {
    let named: String
    if case .string(let text)? = value["name"] { named = text } else { named = "entry \(index)" }
    let node = try DocumentNode(value, file: file, place: named, allowed: Self.keys)
    let layerCount = try node.positiveCount("layers")
    guard layerCount <= 10_000 else { throw node.failure("layers", "is more than 10000") }
    self.layerCount = layerCount
    name = try node.string("name")
    title = try node.optionalString("title") ?? name
    aliases = try node.strings("aliases")
    hiddenDimension = try node.positiveCount("hidden")
    vocabularySize = try node.positiveCount("vocabulary")
    contextLimit = try node.positiveCount("contextLimit")
    trainedContext = try node.optionalCount("trainedContext")
    publishedParameterCount = try node.optionalPositiveNumber("publishedParameters")
    hasTiedEmbeddings = try node.optionalBool("tiedEmbeddings") ?? false
    evidence = try node.optionalString("evidence") ?? "user file"
    doubts = try node.strings("doubts")
    attention = try Self.attentionGroups(node, layerCount: layerCount)
    feedForward = try Self.feedForwardGroups(node, layerCount: layerCount)
  }

  private static func attentionGroups(
    _ node: DocumentNode, layerCount: Int
  ) throws(CostModelError) -> [AttentionGroup] {
    var nodes: [DocumentNode] = []
    for value in try node.elements("attention") {
      nodes.append(
        try DocumentNode(
          value, file: node.file, place: node.place + " attention",
          allowed: [
            "layers", "kind", "heads", "kvHeads", "headDimension", "queryRank", "kvRank",
            "ropeDimension", "nopeDimension", "valueDimension", "window", "kvBytes", "stateBytes",
          ]))
    }
    let sets = try layerSets(nodes, layerCount: layerCount, model: node.place, part: "attention")
    var groups: [AttentionGroup] = []
    for (node, set) in zip(nodes, sets) {
      let shape = try attentionShape(node)
      groups.append(
        AttentionGroup(
          layers: set.indices, shape: shape, window: try node.optionalCount("window"),
          storageByteCount: try node.positiveNumber(shape.isRecurrent ? "stateBytes" : "kvBytes")))
    }
    return groups
  }

  private static func layerSets(
    _ nodes: [DocumentNode], layerCount: Int, model: String, part: String
  ) throws(CostModelError) -> [LayerSet] {
    var texts: [String] = []
    for node in nodes { texts.append(try node.string("layers")) }
    return try LayerSet.partition(texts, layerCount: layerCount, model: model, part: part)
  }

  private static func attentionShape(
    _ node: DocumentNode
  ) throws(CostModelError) -> AttentionShape {
    let heads = try node.positiveCount("heads")
    switch try node.string("kind") {
    case "mfa":
      return .multiMatrix(
        heads: heads, headDimension: try node.positiveCount("headDimension"),
        queryRank: try node.positiveCount("queryRank"))
    case "mla":
      return .latent(
        heads: heads, queryRank: try node.optionalCount("queryRank"),
        kvRank: try node.positiveCount("kvRank"),
        ropeDimension: try node.positiveCount("ropeDimension"),
        nopeDimension: try node.positiveCount("nopeDimension"),
        valueDimension: try node.positiveCount("valueDimension"))
    case "gqa":
      let kvHeads = try node.positiveCount("kvHeads")
      guard heads % kvHeads == 0 else { throw node.failure("kvHeads", "must divide heads") }
      return .grouped(
        heads: heads, kvHeads: kvHeads, headDimension: try node.positiveCount("headDimension"))
    case "lightning":
      return .lightning(heads: heads, headDimension: try node.positiveCount("headDimension"))
    default:
      throw node.failure("kind", "must be mfa, mla, gqa or lightning")
    }
  }

  private static func feedForwardGroups(
    _ node: DocumentNode, layerCount: Int
  ) throws(CostModelError) -> [FeedForwardGroup] {
    var nodes: [DocumentNode] = []
    for value in try node.elements("feedForward") {
      nodes.append(
        try DocumentNode(
          value, file: node.file, place: node.place + " feedForward",
          allowed: [
            "layers", "kind", "intermediate", "experts", "topK", "sharedExperts",
            "sharedIntermediate",
          ]))
    }
    let sets = try layerSets(nodes, layerCount: layerCount, model: node.place, part: "feedForward")
    var groups: [FeedForwardGroup] = []
    for (node, set) in zip(nodes, sets) {
      groups.append(try feedForwardGroup(node, layers: set.indices))
    }
    return groups
  }

  private static func feedForwardGroup(
    _ node: DocumentNode, layers: [Int]
  ) throws(CostModelError) -> FeedForwardGroup {
    let width = try node.positiveCount("intermediate")
    switch try node.string("kind") {
    case "dense":
      return FeedForwardGroup(
        layers: layers, denseWidth: width, expertCount: 0, topK: 0, expertWidth: 0,
        sharedExpertCount: 0, sharedWidth: 0)
    case "moe":
      let experts = try node.positiveCount("experts")
      let topK = try node.positiveCount("topK")
      guard topK <= experts else { throw node.failure("topK", "exceeds the \(experts) experts") }
      return FeedForwardGroup(
        layers: layers, denseWidth: 0, expertCount: experts, topK: topK, expertWidth: width,
        sharedExpertCount: try node.optionalCount("sharedExperts") ?? 0,
        sharedWidth: try node.optionalCount("sharedIntermediate") ?? 0)
    default:
      throw node.failure("kind", "must be dense or moe")
    }
  }
}
