import JSONScanning

extension SchemaCompiler {
  // MARK: Strings

  mutating func compileString(
    _ schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    let (least, most) = try bounds("minLength", "maxLength", in: schema, path: path)
    let content = try stringContent(schema, encoding: .json, path: path)
    if let content {
      let quoted = try surround(content, "\"", "\"", path: path)
      return quoted.map { builder.leaf($0) } ?? .never
    }
    if least == 0, most == nil { return try builder.leaf(Texts.jsonString, path: path) }
    guard let unit = try builder.automaton(Texts.jsonScalar, path: path) else { return .never }
    let quote = UInt8(ascii: "\"")
    let counted = try ByteAutomaton.counted(
      unit, min: least, max: most, opening: quote, closing: quote, budget: builder.budget,
      path: path)
    return counted.map { builder.leaf($0) } ?? .never
  }

  /// What stands in a string that a pattern or format restricts, lengths included; nil when
  /// neither is given.
  func stringContent(
    _ schema: JSONObject, encoding: TextEncoding, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    var patterns: [(String, String)] = []
    if let pattern = schema["pattern"] {
      guard let text = pattern.string else {
        throw .invalid(path: path, construct: "pattern", expected: "a text")
      }
      patterns.append((text, path + "/pattern"))
    }
    // Formats that are no regular language are annotations, as JSON Schema has them by default.
    if let format = schema["format"]?.string, let pattern = StringFormats.patterns[format] {
      patterns.append((pattern, path + "/format"))
    }
    guard !patterns.isEmpty else { return nil }
    var content: ByteAutomaton?
    for (pattern, place) in patterns {
      let any = Expression.repeated(.scalar(.all), min: 0, max: nil)
      let search = Expression.sequence([any, try RegexParser.parse(pattern, path: place), any])
      guard let next = try builder.automaton(search, encoding: encoding, path: place) else {
        throw .unsatisfiable(path: place)
      }
      content = try intersect(content, next, path: place)
    }
    let (least, most) = try bounds("minLength", "maxLength", in: schema, path: path)
    if least > 0 || most != nil {
      let scalar = Expression.scalar(.all)
      guard let unit = try builder.automaton(scalar, encoding: encoding, path: path),
        let counted = try ByteAutomaton.counted(
          unit, min: least, max: most, opening: nil, closing: nil, budget: builder.budget,
          path: path)
      else { throw .unsatisfiable(path: path) }
      content = try intersect(content, counted, path: path)
    }
    return content
  }

  private func intersect(
    _ a: ByteAutomaton?, _ b: ByteAutomaton, path: String
  ) throws(GrammarError) -> ByteAutomaton {
    guard let a else { return b }
    guard let both = try a.combined(with: b, budget: builder.budget, path: path) else {
      throw .unsatisfiable(path: path)
    }
    return both
  }

  /// `content` between two texts, as one automaton.
  func surround(
    _ content: ByteAutomaton, _ opening: String, _ closing: String, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    guard
      var source = NondeterministicAutomaton(
        .text(opening), encoding: .plain, available: builder.vocabulary.availableBytes,
        limit: GrammarBuilder.nodeLimit)
    else { throw .tooLarge(path: path, limit: GrammarBuilder.nodeLimit) }
    source.append(content, suffix: .text(closing))
    return try ByteAutomaton.determinizing(source, budget: builder.budget, path: path)
  }

  // MARK: Numbers

  mutating func compileNumber(
    _ schema: JSONObject, isInteger: Bool, path: String
  ) throws(GrammarError) -> Expression {
    var automaton = try builder.automaton(
      isInteger ? NumberTexts.integer : NumberTexts.number, path: path)
    func narrow(_ expression: Expression) throws(GrammarError) {
      guard let some = automaton, let other = try builder.automaton(expression, path: path) else {
        automaton = nil
        return
      }
      automaton = try some.combined(with: other, budget: builder.budget, path: path)
    }
    for (keyword, isLower, isExclusive) in [
      ("minimum", true, false), ("exclusiveMinimum", true, true), ("maximum", false, false),
      ("exclusiveMaximum", false, true),
    ] {
      guard let value = schema[keyword] else { continue }
      guard value.number != nil else {
        throw .invalid(path: path, construct: keyword, expected: "a number")
      }
      guard let bound = DecimalText(value.text()) else {
        // Beyond every number that is written here: no bound, or none can be reached.
        let isOpen = isLower == ((value.number ?? 0) < 0)
        if isOpen { continue }
        throw .unsupported(
          path: path, construct: keyword, reason: "numbers end at \(NumberTexts.limit)")
      }
      try narrow(
        isLower
          ? NumberTexts.atLeast(bound, isExclusive: isExclusive)
          : NumberTexts.atMost(bound, isExclusive: isExclusive))
    }
    if let divisor = schema["multipleOf"] {
      try narrowToMultiples(of: divisor, &automaton, path: path)
    }
    guard let automaton else { throw .unsatisfiable(path: path) }
    return builder.leaf(automaton)
  }

  private func narrowToMultiples(
    of divisor: JSONValue, _ automaton: inout ByteAutomaton?, path: String
  ) throws(GrammarError) {
    guard let number = divisor.number, number > 0 else {
      throw .invalid(path: path, construct: "multipleOf", expected: "a number above zero")
    }
    let other: ByteAutomaton?
    if number == number.rounded(), number <= 10_000 {
      other = try NumberTexts.multiples(
        of: Int(number), budget: builder.budget, path: path)
    } else if let text = DecimalText(divisor.text()), text.whole == 0,
      text.fraction.last == 1, text.fraction.dropLast().allSatisfy({ $0 == 0 })
    {
      other = try builder.automaton(
        NumberTexts.number(fractionDigits: text.fraction.count), path: path)
    } else {
      throw .unsupported(
        path: path, construct: "multipleOf",
        reason: "only whole numbers up to 10000 and 0.1, 0.01, … can be enforced")
    }
    guard let some = automaton, let other else {
      automaton = nil
      return
    }
    automaton = try some.combined(with: other, budget: builder.budget, path: path)
  }

  // MARK: Arrays

  mutating func compileArray(
    _ schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    let (least, most) = try bounds("minItems", "maxItems", in: schema, path: path)
    if schema["uniqueItems"] == .boolean(true), most ?? 2 > 1 {
      throw .unsupported(
        path: path, construct: "uniqueItems",
        reason: "the elements cannot be compared while they are written")
    }
    var first: [Expression] = []
    if let prefix = schema["prefixItems"] {
      guard let list = prefix.array else {
        throw .invalid(path: path, construct: "prefixItems", expected: "a list of schemas")
      }
      for (index, item) in list.enumerated() {
        first.append(try compile(item, path: "\(path)/prefixItems/\(index)"))
      }
    }
    var item = Expression.never
    // A tuple whose further elements nobody speaks of has none.
    if schema["items"] != nil || schema["prefixItems"] == nil {
      item = try compile(schema["items"] ?? .boolean(true), path: path + "/items")
    }
    if least > 1 || most ?? 0 > 1 { item = shared(item) }
    return .sequence([
      .text("["), Texts.space, elements(first, item, least, most), .text("]"),
    ])
  }

  /// One copy of what is repeated often.
  mutating func shared(_ expression: Expression) -> Expression {
    switch expression {
    case .rule, .leaf: return expression
    default:
      let rule = builder.declareRule()
      builder.define(rule, expression)
      return .rule(rule)
    }
  }

  /// The elements of an array: those of `first` by place, then any number of `item`; white space
  /// follows the last one.
  private func elements(
    _ first: [Expression], _ item: Expression, _ least: Int, _ most: Int?
  ) -> Expression {
    let comma = Expression.sequence([.text(","), Texts.space])
    // Built from the back: what may follow once `count` elements are there.
    let rest = max(0, least - first.count)
    let counted = most.map { max(0, $0 - first.count) }
    var tail: Expression
    if first.isEmpty {
      if most == 0 { return least > 0 ? .never : .empty }
      let more = Expression.repeated(
        .sequence([comma, item]), min: max(0, least - 1), max: most.map { $0 - 1 })
      let some = Expression.sequence([item, more, Texts.space])
      return least > 0 ? some : .optional(some)
    }
    tail = .sequence([
      .repeated(.sequence([comma, item]), min: rest, max: counted), Texts.space,
    ])
    if item == .never { tail = rest > 0 ? .never : Texts.space }
    for (index, element) in first.enumerated().reversed() {
      let separator: Expression = index == 0 ? .empty : comma
      let step = Expression.sequence([separator, element, tail])
      let nothing = index == 0 ? .empty : Texts.space
      if let most, index >= most {
        tail = nothing
      } else {
        tail = index >= least ? .choice([nothing, step]) : step
      }
    }
    return tail
  }

  // MARK: Objects

  mutating func compileObject(
    _ schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    let (least, most) = try bounds("minProperties", "maxProperties", in: schema, path: path)
    let required = try names(schema, path: path)
    guard let properties = (schema["properties"] ?? .object(JSONObject())).object else {
      throw .invalid(path: path, construct: "properties", expected: "an object of schemas")
    }
    let others = schema["additionalProperties"]
    var members: [Member] = []
    for property in properties.members {
      let place = "\(path)/properties/\(property.key)"
      let isRequired = required.contains(property.key)
      let value = try compile(property.value, path: place)
      if value == .never {
        if isRequired { throw .unsatisfiable(path: place) }
        continue
      }
      members.append(member(property.key, value, isRequired))
    }
    for name in required where properties[name] == nil {
      if others == .boolean(false) { throw .unsatisfiable(path: path + "/required") }
      let value = try compile(others ?? .boolean(true), path: path + "/additionalProperties")
      members.append(member(name, value, true))
    }
    var additional: Expression?
    let isOpen = properties.isEmpty && required.isEmpty
    if let others, others != .boolean(false) {
      additional = try compile(others, path: path + "/additionalProperties")
    } else if others == nil, isOpen {
      additional = anyValue()
    }
    if let value = additional {
      let key = try keys(schema, apartFrom: properties.keys + required, path: path)
      additional = .sequence([key, .text(":"), Texts.oneSpace, value])
    }
    return try object(
      members, additional, requiredCount: required.count, least, most, path: path)
  }

  private func member(_ key: String, _ value: Expression, _ isRequired: Bool) -> Member {
    let name = Expression.text(JSONValue.string(key).text() + ":")
    return Member(text: .sequence([name, Texts.oneSpace, value]), isRequired: isRequired)
  }

  /// Puts an object together; counts of properties can be enforced where no member is named.
  private mutating func object(
    _ members: [Member], _ additional: Expression?, requiredCount: Int, _ least: Int,
    _ most: Int?, path: String
  ) throws(GrammarError) -> Expression {
    let known = members.filter(\.isRequired).count
    let enough = known >= least
    let notTooMany = most.map { additional == nil && members.count <= $0 } ?? true
    if enough, notTooMany { return Self.object(members, additional: additional) }
    guard members.isEmpty, let additional else {
      throw .unsupported(
        path: path, construct: enough ? "maxProperties" : "minProperties",
        reason: "counts can be enforced only where no property is named")
    }
    let part = shared(additional)
    let comma = Expression.sequence([.text(","), Texts.space])
    var inside: Expression = .empty
    if most != 0 {
      let some = Expression.sequence([
        part,
        .repeated(.sequence([comma, part]), min: max(0, least - 1), max: most.map { $0 - 1 }),
        Texts.space,
      ])
      inside = least > 0 ? some : .optional(some)
    }
    return .sequence([.text("{"), Texts.space, inside, .text("}")])
  }

  private func names(
    _ schema: JSONObject, path: String
  ) throws(GrammarError) -> [String] {
    guard let required = schema["required"] else { return [] }
    guard let list = required.array, list.allSatisfy({ $0.string != nil }) else {
      throw .invalid(path: path, construct: "required", expected: "a list of names")
    }
    return list.compactMap(\.string)
  }

  /// The keys that additional properties may have: none of the names, and what `propertyNames`
  /// demands.
  private mutating func keys(
    _ schema: JSONObject, apartFrom names: [String], path: String
  ) throws(GrammarError) -> Expression {
    let place = path + "/propertyNames"
    var content: ByteAutomaton?
    if let demand = schema["propertyNames"], demand != .boolean(true) {
      guard case .object(let object) = try expanded(demand, path: place),
        object.keys.allSatisfy({ key in
          ["pattern", "format", "minLength", "maxLength", "type"].contains(key)
            || SchemaMerge.annotations.contains(key)
        })
      else {
        throw .unsupported(
          path: path, construct: "propertyNames",
          reason: "only pattern, format and lengths can be enforced on names")
      }
      var bounded = object
      if bounded["pattern"] == nil { bounded["pattern"] = "" }
      content = try stringContent(bounded, encoding: .json, path: place)
    }
    if names.isEmpty, content == nil { return try builder.leaf(Texts.jsonString, path: path) }
    // What must be escaped is, in one way each, so that a key has one spelling.
    let any = Expression.repeated(.scalar(.all), min: 0, max: nil)
    if content == nil { content = try builder.automaton(any, encoding: .json, path: path) }
    guard var keys = content else { return .never }
    if !names.isEmpty {
      let spelled = names.map { name in
        Expression.bytes(Array(JSONValue.string(name).text().utf8.dropFirst().dropLast()))
      }
      if let taken = try builder.automaton(.choice(spelled), path: path) {
        guard
          let free = try keys.combined(
            with: taken, isDifference: true, budget: builder.budget, path: path)
        else {
          return .never
        }
        keys = free
      }
    }
    return try surround(keys, "\"", "\"", path: path).map { builder.leaf($0) } ?? .never
  }

  // MARK: Bounds

  /// Two keywords that bound a count.
  func bounds(
    _ low: String, _ high: String, in schema: JSONObject, path: String
  ) throws(GrammarError) -> (Int, Int?) {
    let least = try count(low, in: schema, path: path) ?? 0
    let most = try count(high, in: schema, path: path)
    if let most, most < least { throw .unsatisfiable(path: path) }
    return (least, most)
  }

  private func count(
    _ keyword: String, in schema: JSONObject, path: String
  ) throws(GrammarError) -> Int? {
    guard let value = schema[keyword] else { return nil }
    guard let number = value.number, number >= 0, number == number.rounded(), number < 1e15 else {
      throw .invalid(path: path, construct: keyword, expected: "a whole number, 0 or more")
    }
    return Int(number)
  }
}
