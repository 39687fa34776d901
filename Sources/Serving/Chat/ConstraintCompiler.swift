import ConstrainedDecoding
import Inference
import JSONScanning
import Synchronization

/// Compiles constraints and keeps what was compiled, for the same schema comes again and again.
final class ConstraintCompiler: Sendable {
  private static let capacity = 64
  private let cache = Mutex<[String: Grammar]>([:])

  /// The grammar for what a request asks of its answer.
  func compile(
    _ specification: ConstraintSpecification, model: ServedModel
  ) throws(APIError) -> GrammarConstraint {
    let path: String
    let source: GrammarSource
    switch specification {
    case .jsonObject: (path, source) = ("response_format", .jsonObject)
    case .jsonSchema(let schema): (path, source) = ("response_format", .jsonSchema(schema))
    case .regex(let pattern): (path, source) = ("structured_outputs.regex", .regex(pattern))
    case .choice(let texts): (path, source) = ("structured_outputs.choice", .choice(texts))
    case .grammar:
      throw .notImplemented(
        path: "structured_outputs.grammar", reason: "is not offered; use `json` or `regex`.")
    }
    return try compile(source, key: "\(specification.key)", path: path, model: model)
  }

  /// The grammar for an answer that must call one of `tools`.
  func compile(
    tools: [ChatTool], allowsSeveral: Bool, model: ServedModel
  ) throws(APIError) -> GrammarConstraint {
    let key = "tools \(allowsSeveral) " + JSONValue.array(tools.map(\.json)).text(.compact)
    return try compile(
      .toolCalls(
        tools.map { ConstrainedTool(name: $0.name, parameters: $0.parameters) },
        allowsSeveral: allowsSeveral),
      key: key, path: "tools", model: model)
  }

  /// The grammar for a source, kept under `key`.
  func compile(
    _ source: GrammarSource, key: String, path: String, model: ServedModel
  ) throws(APIError) -> GrammarConstraint {
    if let grammar = cache.withLock({ $0[key] }) {
      return GrammarConstraint(grammar, source: source)
    }
    let grammar: Grammar
    do throws(GrammarError) {
      grammar = try Grammar.compile(source, vocabulary: model.text.vocabulary)
    } catch {
      throw .badField(path: path, reason: "cannot be enforced: \(error).")
    }
    cache.withLock { cache in
      if cache.count >= Self.capacity { cache.removeAll() }
      cache[key] = grammar
    }
    return GrammarConstraint(grammar, source: source)
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
