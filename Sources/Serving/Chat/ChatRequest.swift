import JSONScanning
import OutputParsing

/// A conversation to be continued, whichever API it came through.
struct ChatRequest: Sendable {
  var input: ChatTemplateInput
  var tools: [ChatTool] = []
  var toolChoice = ToolChoice.auto
  var allowsParallelCalls = true
  var constraint: ConstraintSpecification?
  var options: GenerationOptions
  /// The field of the route that holds the prompt.
  var promptPath = "messages"
  var reasoning = ReasoningOptions()
  /// Whether the tokenizer adds its own special tokens to the rendered prompt.
  var addsSpecialTokens = false
  /// Text that is given back before the answer.
  var echo = ""

  /// The tools the model may call here.
  var offeredTools: [ChatTool] {
    switch toolChoice {
    case .none: []
    case .auto, .required: tools
    case .named(let name): tools.filter { $0.name == name }
    case .allowed(let names, _): tools.filter { names.contains($0.name) }
    }
  }
}

/// A function that the model may call.
struct ChatTool: Sendable, Equatable {
  var name: String
  var description: String?
  /// The JSON schema of its arguments.
  var parameters: JSONValue
  var isStrict = false

  /// OpenAI's form, which templates expect.
  var json: JSONValue {
    let function = JSONObject([
      ("name", .string(name)), ("description", description.map { .string($0) }),
      ("parameters", parameters), ("strict", isStrict ? true : nil),
    ])
    return ["type": "function", "function": .object(function)]
  }

  /// What the output parser needs of it.
  var signature: ToolSignature { ToolSignature(name: name, schema: parameters) }
}

/// Which tools the model may or must call.
enum ToolChoice: Sendable, Equatable {
  case none
  case auto
  case required
  case named(String)
  case allowed([String], isRequired: Bool)

  /// Whether at least one call must come.
  var isForced: Bool {
    switch self {
    case .none, .auto: false
    case .required, .named: true
    case .allowed(_, let isRequired): isRequired
    }
  }
}

/// How reasoning is asked for and shown.
struct ReasoningOptions: Sendable, Equatable {
  /// Whether reasoning is sent at all.
  var isIncluded = true
  /// Whether it is told from the answer.
  var isSeparate = true
  /// Whether it is streamed as it comes, or sent whole.
  var isStreamed = true
}

/// What the answer must look like, before it is compiled.
enum ConstraintSpecification: Sendable, Equatable {
  case jsonObject
  case jsonSchema(JSONValue)
  case regex(String)
  case choice([String])
  case grammar(String)
}
