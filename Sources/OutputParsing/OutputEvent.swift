/// What the parser finds in the output, in order.
///
/// Per tool call: `toolCallStarted` once, `toolArguments` at least once, `toolCallFinished` once;
/// the fragments of one call, joined, are a JSON object.
package enum OutputEvent: Equatable, Sendable {
  /// More text of the think block.
  case reasoning(String)
  /// More text of the answer.
  case content(String)
  /// A call of the tool `name` begins; calls count from 0.
  case toolCallStarted(index: Int, name: String)
  /// More of the call's arguments as JSON text.
  case toolArguments(index: Int, fragment: String)
  /// The call is over; it is incomplete when the output ended within it.
  case toolCallFinished(index: Int, isComplete: Bool)
}

/// What a whole output holds.
package struct ParsedOutput: Equatable, Sendable {
  /// One tool call.
  package struct ToolCall: Equatable, Sendable {
    /// The tool's name.
    package let name: String
    /// The arguments: a JSON object as text.
    package var arguments: String
    /// Whether the output held all of it.
    package var isComplete: Bool
  }

  /// The text of the think block, nil when there is none.
  package private(set) var reasoning: String?
  /// The text of the answer, nil when there is none.
  package private(set) var content: String?
  /// The tool calls in order.
  package private(set) var toolCalls: [ToolCall] = []

  /// Nothing yet.
  package init() {}

  /// The one-shot result for a whole output.
  package init(parsing text: String, as format: OutputFormat) {
    var parser = OutputParser(format)
    for event in parser.feed(text) + parser.finish() { append(event) }
  }

  /// Adds what a streamed event says.
  package mutating func append(_ event: OutputEvent) {
    switch event {
    case .reasoning(let text): reasoning = (reasoning ?? "") + text
    case .content(let text): content = (content ?? "") + text
    case .toolCallStarted(_, let name):
      toolCalls.append(ToolCall(name: name, arguments: "", isComplete: false))
    case .toolArguments(let index, let fragment): toolCalls[index].arguments += fragment
    case .toolCallFinished(let index, let isComplete): toolCalls[index].isComplete = isComplete
    }
  }
}

/// How an output is read.
package struct OutputFormat: Sendable {
  /// Whether think blocks are told from the answer (`--reasoning-parser`); otherwise their markers
  /// stay in the content.
  package var parsesReasoning: Bool
  /// Whether the prompt has opened the think block already, as Step3's template does.
  package var startsInReasoning: Bool
  /// Whether tool calls are told from the answer (`--tool-call-parser`).
  package var parsesTools: Bool
  /// Whether calls after the first are dropped (`parallel_tool_calls: false`).
  package var keepsOnlyFirstCall: Bool
  /// The request's tools, whose schemas type the arguments.
  package var tools: [ToolSignature]

  /// Step3's format; tools are parsed when there are some.
  package init(
    parsesReasoning: Bool = true, startsInReasoning: Bool = true, parsesTools: Bool? = nil,
    keepsOnlyFirstCall: Bool = false, tools: [ToolSignature] = []
  ) {
    self.parsesReasoning = parsesReasoning
    self.startsInReasoning = startsInReasoning
    self.parsesTools = parsesTools ?? !tools.isEmpty
    self.keepsOnlyFirstCall = keepsOnlyFirstCall
    self.tools = tools
  }
}
