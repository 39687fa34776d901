import ConstrainedDecoding
import Dispatch
import Inference
import JSONScanning
import Synchronization

/// Compiles constraints and keeps what came of it, for the same schema comes again and again.
///
/// Requests compile one at a time on a thread of low priority: those that stream must not wait.
final class ConstraintCompiler: Sendable {
  private static let capacity = 64
  private let cache = Mutex<[String: Result<Grammar, GrammarError>]>([:])
  private let queue = DispatchQueue(label: "grammars", qos: .utility)

  /// Learns a vocabulary ahead of the first request that constrains its answer.
  func prepare(_ vocabulary: TokenVocabulary) {
    queue.async { vocabulary.prepare() }
  }

  /// The grammar for what a request asks of its answer; `tools` may be called instead of it.
  func compile(
    _ specification: ConstraintSpecification, tools: [ChatTool] = [], allowsSeveral: Bool = true,
    model: ServedModel
  ) async throws(APIError) -> GrammarConstraint {
    let (path, source) = try Self.source(specification)
    let key = "\(specification.key)"
    if !tools.isEmpty {
      let calls = Self.calls(tools, allowsSeveral: allowsSeveral)
      let both = try? await compileInTurn(
        .either(source, calls), key: key + Self.key(tools, allowsSeveral: allowsSeveral),
        path: path, model: model)
      // A tool whose arguments cannot be enforced is not called beside a format.
      if let both { return both }
    }
    return try await compileInTurn(source, key: key, path: path, model: model)
  }

  private static func source(
    _ specification: ConstraintSpecification
  ) throws(APIError) -> (path: String, GrammarSource) {
    switch specification {
    case .jsonObject: return ("response_format", .jsonObject)
    case .jsonSchema(let schema): return ("response_format", .jsonSchema(schema))
    case .regex(let pattern): return ("structured_outputs.regex", .regex(pattern))
    case .choice(let texts): return ("structured_outputs.choice", .choice(texts))
    case .grammar:
      throw .notImplemented(
        path: "structured_outputs.grammar", reason: "is not offered; use `json` or `regex`.")
    }
  }

  private static func calls(_ tools: [ChatTool], allowsSeveral: Bool) -> GrammarSource {
    .toolCalls(
      tools.map { ConstrainedTool(name: $0.name, parameters: $0.parameters) },
      allowsSeveral: allowsSeveral)
  }

  private static func key(_ tools: [ChatTool], allowsSeveral: Bool) -> String {
    "tools \(allowsSeveral) " + JSONValue.array(tools.map(\.json)).text(.compact)
  }

  /// The grammar for an answer that must call one of `tools`.
  func compile(
    tools: [ChatTool], allowsSeveral: Bool, model: ServedModel
  ) async throws(APIError) -> GrammarConstraint {
    try await compileInTurn(
      Self.calls(tools, allowsSeveral: allowsSeveral),
      key: Self.key(tools, allowsSeveral: allowsSeveral), path: "tools", model: model)
  }

  private func compileInTurn(
    _ source: GrammarSource, key: String, path: String, model: ServedModel
  ) async throws(APIError) -> GrammarConstraint {
    if cache.withLock({ $0[key] }) == nil {
      await withCheckedContinuation { continuation in
        queue.async { [self] in
          _ = result(source, key: key, model: model)
          continuation.resume()
        }
      }
    }
    return try compile(source, key: key, path: path, model: model)
  }

  /// The grammar for a source, kept under `key`; compiled in the calling thread if need be.
  func compile(
    _ source: GrammarSource, key: String, path: String, model: ServedModel
  ) throws(APIError) -> GrammarConstraint {
    switch result(source, key: key, model: model) {
    case .success(let grammar): return GrammarConstraint(grammar, source: source)
    case .failure(let error):
      throw .badField(path: path, reason: "cannot be enforced: \(error).")
    }
  }

  private func result(
    _ source: GrammarSource, key: String, model: ServedModel
  ) -> Result<Grammar, GrammarError> {
    if let known = cache.withLock({ $0[key] }) { return known }
    let made: Result<Grammar, GrammarError>
    do throws(GrammarError) {
      let grammar = try Grammar.compile(source, vocabulary: model.text.vocabulary)
      // The first mask is the dearest; computed here, it keeps no step waiting.
      var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
      GrammarMatcher(grammar).fill(&mask)
      made = .success(grammar)
    } catch { made = .failure(error) }
    cache.withLock { cache in
      if cache.count >= Self.capacity { cache.removeAll() }
      cache[key] = made
    }
    return made
  }
}

extension ConstraintSpecification {
  /// A text that is the same for the same constraint.
  fileprivate var key: String {
    switch self {
    case .jsonObject: "object"
    case .jsonSchema(let schema): "schema " + schema.text(.compact)
    case .regex(let pattern): "regex " + pattern
    case .choice(let texts):
      "choice " + JSONValue.array(texts.map { .string($0) }).text(.compact)
    case .grammar(let text): "grammar " + text
    }
  }
}
