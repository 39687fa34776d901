internal import JSONScanning

extension PreTokenizer {
  /// What ByteLevel splits by when its `use_regex` is on: the pattern of GPT-2.
  static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  /// Reads tokenizer.json's `pre_tokenizer`, which must contain a ByteLevel step.
  init(parsing value: JSONValue) throws(TokenizerError) {
    var steps: [PreTokenizationStep] = []
    var hasByteLevel = false
    try Self.append(value, to: &steps, &hasByteLevel)
    guard hasByteLevel else {
      throw .unsupported(component: "pre_tokenizer without ByteLevel", value: Self.type(of: value))
    }
    self.steps = steps
  }

  private static func type(of value: JSONValue) -> String { value["type"]?.string ?? "null" }

  private static func append(
    _ value: JSONValue, to steps: inout [PreTokenizationStep], _ hasByteLevel: inout Bool
  ) throws(TokenizerError) {
    switch type(of: value) {
    case "Sequence":
      guard let members = value["pretokenizers"]?.array else {
        throw .malformed(member: "pre_tokenizer.pretokenizers", expected: "an array")
      }
      for member in members { try append(member, to: &steps, &hasByteLevel) }
    case "Split": steps.append(try split(value))
    case "ByteLevel":
      hasByteLevel = true
      if try value.flag("add_prefix_space", default: true) { steps.append(.prefixSpace) }
      if try value.flag("use_regex", default: true) {
        let pattern = try OnigurumaPattern.translated(gpt2Pattern)
        let compiled = try CompiledPattern(pattern, source: gpt2Pattern)
        steps.append(.split(compiled, .isolated, inverted: false))
      }
    case "Digits":
      let isIndividual = try value.flag("individual_digits", default: false)
      // Runs of digits are what Contiguous leaves of single ones.
      let pattern = "[" + (try OnigurumaPattern.digitRanges()) + (isIndividual ? "]" : "]+")
      let compiled = try CompiledPattern(pattern, source: "Digits")
      steps.append(.split(compiled, .isolated, inverted: false))
    case let other: throw .unsupported(component: "pre_tokenizer", value: other)
    }
  }

  private static func split(_ value: JSONValue) throws(TokenizerError) -> PreTokenizationStep {
    guard let name = value["behavior"]?.string else {
      throw .malformed(member: "pre_tokenizer Split.behavior", expected: "a string")
    }
    guard let behavior = SplitBehavior(rawValue: name) else {
      throw .unsupported(component: "Split behavior", value: name)
    }
    let isInverted = try value.flag("invert", default: false)
    let pattern: CompiledPattern
    if let source = value["pattern"]?["Regex"]?.string {
      pattern = try CompiledPattern(try OnigurumaPattern.translated(source), source: source)
    } else if let text = value["pattern"]?["String"]?.string, !text.isEmpty {
      pattern = try CompiledPattern(OnigurumaPattern.escaped(text), source: text)
    } else {
      throw .malformed(
        member: "pre_tokenizer Split.pattern", expected: "{\"Regex\": …} or {\"String\": …}")
    }
    return .split(pattern, behavior, inverted: isInverted)
  }
}

extension JSONValue {
  /// The Boolean member `name`; absent or null gives the default.
  func flag(_ name: String, default fallback: Bool) throws(TokenizerError) -> Bool {
    guard let value = self[name], !value.isNull else { return fallback }
    guard let flag = value.boolean else {
      throw .malformed(member: name, expected: "true or false")
    }
    return flag
  }
}
