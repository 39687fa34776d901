/// Everything that can be wrong with what a user asks of the cost model.
package enum CostModelError: Error, Equatable, Sendable {
  case malformedDocument(file: String, place: String, fact: String)
  case unknownKey(file: String, place: String, key: String, nearest: String?)
  case unknownModel(name: String, nearest: String?, known: [String])
  case unknownHardware(name: String, nearest: String?, known: [String])
  case unsupportedModelType(file: String, modelType: String)
  case contextOutOfRange(model: String, context: Double, limit: Int)
  case notPositive(quantity: String, value: Double)
  case outOfRange(quantity: String, value: Double, lower: Double, upper: Double)
  case noPrice(hardware: String)
  case layersDoNotPartition(model: String, part: String, fact: String)
  case tooManyShards(model: String, shards: Int, experts: Int)
}

extension CostModelError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .malformedDocument(let file, let place, let fact):
      "\(file), \(place): \(fact)"
    case .unknownKey(let file, let place, let key, let nearest):
      "\(file), \(place): unknown key \"\(key)\"" + Self.suggestion(nearest)
    case .unknownModel(let name, let nearest, let known):
      "unknown model \"\(name)\"" + Self.suggestion(nearest)
        + "; known: \(known.joined(separator: " ")), or a config.json"
    case .unknownHardware(let name, let nearest, let known):
      "unknown hardware \"\(name)\"" + Self.suggestion(nearest)
        + "; known: \(known.joined(separator: " ")), or an entry of a --hardware-file"
    case .unsupportedModelType(let file, let modelType):
      "\(file): model type \"\(modelType)\" has no known attention family; supported are MFA, "
        + "MLA, GQA and MQA, sliding or chunked windows, and lightning attention"
    case .contextOutOfRange(let model, let context, let limit):
      "not possible: context \(plainNumber(context)) lies outside 1...\(limit), "
        + "the contexts of \(model)"
    case .notPositive(let quantity, let value):
      "not possible: \(quantity) must be a positive number, not \(plainNumber(value))"
    case .outOfRange(let quantity, let value, let lower, let upper):
      "not possible: \(quantity) must lie in \(plainNumber(lower))..."
        + "\(plainNumber(upper)), not \(plainNumber(value))"
    case .noPrice(let hardware):
      "not possible: no price is known for \(hardware); give one with "
        + "--price \(hardware)=USD_PER_HOUR"
    case .layersDoNotPartition(let model, let part, let fact):
      "\(model), \(part): \(fact)"
    case .tooManyShards(let model, let shards, let experts):
      "not possible: the \(experts) experts of \(model) in at most 4 slices each cannot be split "
        + "evenly over \(shards) FFN nodes; plan with fewer or larger FFN devices"
    }
  }

  private static func suggestion(_ nearest: String?) -> String {
    nearest.map { "; did you mean \"\($0)\"?" } ?? ""
  }
}
