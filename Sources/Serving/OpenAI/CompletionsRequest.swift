import Inference
import JSONScanning

/// The request of `POST /v1/completions`.
struct CompletionsRequest: Sendable {
  /// The tokens a request generates that does not say how many, as at OpenAI.
  static let defaultMaximumTokens = 16

  /// A prompt, as text where it came as text.
  struct Prompt: Sendable {
    var tokens: [Int]
    var text: String?
  }

  var modelName: String
  var prompts: [Prompt]
  var options: GenerationOptions
  /// Whether the prompt comes back before the answer.
  var echoes: Bool
  var constraint: ConstraintSpecification?

  init(_ fields: FieldReader, model: ServedModel, context: APIContext) throws(APIError) {
    let settings = context.settings
    modelName = try context.resolve(model: try fields.string("model"))
    try fields.refuse([("suffix", "is not offered: this model does not fill in the middle.")])
    echoes = try fields.boolean("echo") ?? false
    let count = try fields.integer("logprobs", in: -1...settings.limits.logprobCount)
    options = try GenerationOptions(fields, logprobCount: count, model: model, settings: settings)
    let least = echoes ? 0 : 1
    options.maximumTokens =
      try fields.integer("max_tokens", in: least...Int.max) ?? Self.defaultMaximumTokens
    if echoes, let count { options.promptLogprobCount = options.promptLogprobCount ?? count }
    constraint = try ConstraintSpecification.read(fields)
    let adds = try fields.boolean("add_special_tokens") ?? true
    prompts = try Self.prompts(
      fields, addsSpecialTokens: adds, model: model, limit: settings.limits.promptCount)
  }

  private static func prompts(
    _ fields: FieldReader, addsSpecialTokens: Bool, model: ServedModel, limit: Int
  ) throws(APIError) -> [Prompt] {
    let path = fields.path("prompt")
    let value = try fields.required("prompt")
    if let text = value.string { return [try prompt(text, path, addsSpecialTokens, model)] }
    guard let array = value.array else {
      throw .badField(
        path: path, reason: "must be a string, token ids, or an array of either.")
    }
    guard let first = array.first else {
      throw .badField(path: path, reason: "must not be empty.")
    }
    if first.kind == .number { return [try prompt(ids: array, path, model)] }
    guard array.count <= limit else {
      throw .badField(path: path, reason: "holds more than \(limit) prompts.")
    }
    var prompts: [Prompt] = []
    for (index, element) in array.enumerated() {
      let path = "\(path)[\(index)]"
      if let text = element.string {
        prompts.append(try prompt(text, path, addsSpecialTokens, model))
      } else if let ids = element.array {
        prompts.append(try prompt(ids: ids, path, model))
      } else {
        throw .badField(path: path, reason: "must be a string or an array of token ids.")
      }
    }
    return prompts
  }

  private static func prompt(
    _ text: String, _ path: String, _ adds: Bool, _ model: ServedModel
  ) throws(APIError) -> Prompt {
    guard !text.isEmpty else { throw .badField(path: path, reason: "must not be empty.") }
    let tokens = try model.text.encode(text, addsSpecialTokens: adds)
    return Prompt(tokens: tokens, text: text)
  }

  private static func prompt(
    ids: [JSONValue], _ path: String, _ model: ServedModel
  ) throws(APIError) -> Prompt {
    guard !ids.isEmpty else { throw .badField(path: path, reason: "must not be empty.") }
    let tokens = try FieldReader.tokenIDs(
      ids, path: path, vocabularySize: model.facts.vocabularySize)
    return Prompt(tokens: tokens, text: nil)
  }

  /// The engine requests, one per prompt.
  func prepared(
    id: String, model: ServedModel, compiler: ConstraintCompiler
  ) async throws(APIError) -> PreparedGeneration {
    var compiled: GrammarConstraint?
    if let constraint { compiled = try await compiler.compile(constraint, model: model) }
    var requests: [GenerationRequest] = []
    for (index, prompt) in prompts.enumerated() {
      var request = try options.request(
        id: "\(id)-\(index)", prompt: prompt.tokens, model: model, path: "prompt")
      request.constraint = compiled
      requests.append(request)
    }
    return PreparedGeneration(requests: requests, format: .plain, options: options)
  }
}
