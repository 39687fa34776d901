package import Inference
package import JSONScanning

/// A loaded model as the routes see it.
package struct ServedModel: Sendable {
  /// Its tokenizer and template.
  package let text: any ModelText
  /// Its sizes.
  package let facts: ModelFacts
  /// Reads images; nil for a model that takes text only.
  package let images: ImageReader?

  package init(text: any ModelText, facts: ModelFacts, images: ImageReader? = nil) {
    self.text = text
    self.facts = facts
    self.images = images
  }
}

/// Choices made when the server is started that decide how requests are read and answered.
package struct APISettings: Sendable {
  /// The names the model answers to; the first one is written in answers.
  package var modelNames = ["step3"]
  /// The cluster's key, on an attention node that takes requests from a gateway.
  package var clusterKey: [UInt8]?
  /// Gives the timeline of the next so many steps, on an attention node.
  package var clusterTrace: (@Sendable (_ steps: Int) async -> JSONValue?)?
  /// Takes a new expert map, on an attention node; why it cannot be, or nil.
  package var clusterMap: (@Sendable (JSONValue) -> String?)?
  /// More members of the status, on an attention node.
  package var clusterStatus: (@Sendable () -> [(String, JSONValue)])?
  /// More metrics, on an attention node.
  package var clusterMetrics: (@Sendable () -> [ClusterMetric])?
  /// Keys that open the API; none leaves it open.
  package var keys: [String] = []
  package var defaults = SamplingDefaults()
  package var limits = RequestLimits()
  /// The most images one request may show.
  package var imageLimit = 32
  /// Hosts that images are fetched from; none by default.
  package var allowedMediaDomains: [String] = []
  /// Whether think blocks are told from answers.
  package var parsesReasoning = true
  /// Whether tool calls are told from answers.
  package var parsesTools = true
  /// Under which names reasoning is sent.
  package var reasoningField = ReasoningField.reasoningContent
  /// Origins that browsers may call from besides our own; `*` for any.
  package var allowedOrigins: [String] = []
  /// Whether the chat page is served at `/`.
  package var servesPage = true
  /// Whether `/metrics` needs a key.
  package var guardsMetrics = false
  /// Whether metrics are also printed under vLLM's names.
  package var printsVLLMMetrics = false
  /// Whether `/health` answers 503 until the model is loaded.
  package var strictHealth = false
  /// How many responses are kept, and for how long.
  package var storedResponseCount = 1000
  package var storedResponseSeconds = 3600.0
  /// Whether a timings object rides on answers.
  package var includesTimings = false
  package var version = "0.1.0"

  package init() {}
}

/// Under which names reasoning is sent.
package enum ReasoningField: String, Sendable, CaseIterable {
  case reasoningContent = "reasoning_content"
  case reasoning
  case both

  /// The member names.
  var names: [String] {
    switch self {
    case .reasoningContent: ["reasoning_content"]
    case .reasoning: ["reasoning"]
    case .both: ["reasoning_content", "reasoning"]
    }
  }
}
