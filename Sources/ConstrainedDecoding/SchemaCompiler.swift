import JSONScanning

/// Turns a JSON schema into the texts of the JSON values it allows.
///
/// Where a schema leaves a choice that only harms generation it is taken away: a schema that names
/// properties and says nothing of others allows no others; properties come in the schema's order;
/// white space is bounded; numbers have bounded lengths. What is generated is always valid. What
/// cannot be enforced is refused, by its place and name, before any token.
struct SchemaCompiler {
  var builder: GrammarBuilder
  let root: JSONValue
  /// Rules of the places that references lead to.
  private var rules: [String: Int] = [:]
  private var anyRule: Int?
  private var depth = 0
  private var schemaCount = 0
  private static let depthLimit = 200
  /// The most schemas that are compiled, references that had to be copied included.
  private static let schemaLimit = 50_000
  /// What reading one costs, in units of the budget.
  private static let schemaCost = 2000

  init(root: JSONValue, builder: GrammarBuilder) {
    self.root = root
    self.builder = builder
  }

  /// Keywords that restrict values in ways no automaton here enforces.
  private static let refused: [String: String] = [
    "not": "negation is no context-free constraint",
    "if": "conditions cannot be enforced; write the cases as anyOf",
    "dependentRequired": "write the cases as anyOf",
    "dependentSchemas": "write the cases as anyOf",
    "dependencies": "write the cases as anyOf",
    "unevaluatedProperties": "use additionalProperties",
    "unevaluatedItems": "use items",
    "contains": "the elements cannot be counted while they are written",
    "minContains": "the elements cannot be counted while they are written",
    "maxContains": "the elements cannot be counted while they are written",
    "patternProperties": "keys cannot be tied to schemas by pattern; use additionalProperties",
    "$dynamicRef": "only $ref can be followed",
    "$recursiveRef": "only $ref can be followed",
    "additionalItems": "use prefixItems and items",
  ]

  /// The texts of the values that `schema`, which stands at `path`, allows.
  mutating func compile(_ schema: JSONValue, path: String) throws(GrammarError) -> Expression {
    depth += 1
    defer { depth -= 1 }
    schemaCount += 1
    guard schemaCount <= Self.schemaLimit else {
      throw .tooLarge(path: path, limit: Self.schemaLimit)
    }
    try builder.budget.spend(Self.schemaCost, path: path)
    guard depth <= Self.depthLimit else {
      throw .unsupported(
        path: path, construct: "nesting", reason: "the schema nests deeper than \(Self.depthLimit)")
    }
    switch schema {
    case .boolean(true): return anyValue()
    case .boolean(false): return .never
    case .object(let object): return try compile(object, path: path)
    default:
      throw .invalid(path: path, construct: "schema", expected: "an object, true or false")
    }
  }

  private mutating func compile(
    _ schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    if let reference = schema["$ref"] {
      return try compileReference(reference, in: schema, path: path)
    }
    for member in schema.members {
      guard let reason = Self.refused[member.key] else { continue }
      if member.key == "patternProperties", member.value.object?.isEmpty ?? false { continue }
      if member.key.hasPrefix("unevaluated"), member.value == .boolean(true) { continue }
      throw .unsupported(path: path, construct: member.key, reason: reason)
    }
    if let parts = schema["allOf"] {
      return try compileConjunction(parts, in: schema, path: path)
    }
    if schema["enum"] != nil || schema["const"] != nil {
      return try compileValues(schema, path: path)
    }
    for keyword in ["anyOf", "oneOf"] {
      guard let branches = schema[keyword] else { continue }
      return try compileBranches(branches, keyword, in: schema, path: path)
    }
    var choices: [Expression] = []
    for type in try types(of: schema, path: path) {
      choices.append(try compile(schema, as: type, path: path))
    }
    return choices.count == 1 ? choices[0] : .choice(choices)
  }

  private mutating func compile(
    _ schema: JSONObject, as type: String, path: String
  ) throws(GrammarError) -> Expression {
    switch type {
    case "null": return .text("null")
    case "boolean": return try builder.leaf(.choice([.text("true"), .text("false")]), path: path)
    case "string": return try compileString(schema, path: path)
    case "integer", "number":
      return try compileNumber(schema, isInteger: type == "integer", path: path)
    case "array": return try compileArray(schema, path: path)
    case "object": return try compileObject(schema, path: path)
    default:
      throw .invalid(
        path: path, construct: "type",
        expected: "null, boolean, integer, number, string, array or object, not '\(type)'")
    }
  }

  /// The types a schema allows; told by its other keywords when it does not say.
  private func types(of schema: JSONObject, path: String) throws(GrammarError) -> [String] {
    let all = ["object", "array", "string", "number", "boolean", "null"]
    if let given = schema["type"] {
      var names = SchemaMerge.types(given)
      guard given.string != nil || given.array?.count == names.count else {
        throw .invalid(path: path, construct: "type", expected: "a name or a list of names")
      }
      if names.contains("number") { names.removeAll { $0 == "integer" } }
      if schema["nullable"] == .boolean(true), !names.contains("null") { names.append("null") }
      return names
    }
    let hints: [(String, [String])] = [
      (
        "object",
        [
          "properties", "required", "additionalProperties", "minProperties", "maxProperties",
          "propertyNames",
        ]
      ),
      ("array", ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]),
      ("string", ["pattern", "minLength", "maxLength", "format"]),
      (
        "number",
        ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
      ),
    ]
    let hinted = hints.filter { $0.1.contains { schema[$0] != nil } }.map(\.0)
    return hinted.isEmpty ? all : hinted
  }

  // MARK: References and combinations

  private mutating func compileReference(
    _ reference: JSONValue, in schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    guard let pointer = reference.string else {
      throw .invalid(path: path, construct: "$ref", expected: "a text")
    }
    let target = try SchemaMerge.resolve(pointer, in: root, path: path)
    var rest = schema
    rest["$ref"] = nil
    guard rest.keys.allSatisfy({ SchemaMerge.annotations.contains($0) }) else {
      return try compile(
        try SchemaMerge.merge(target, .object(rest), path: path), path: path)
    }
    if let rule = rules[pointer] { return .rule(rule) }
    let rule = builder.declareRule()
    rules[pointer] = rule
    let body = try compile(target, path: pointer)
    builder.define(rule, body)
    return .rule(rule)
  }

  private mutating func compileConjunction(
    _ parts: JSONValue, in schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    guard let list = parts.array, !list.isEmpty else {
      throw .invalid(path: path, construct: "allOf", expected: "a list of schemas")
    }
    var rest = schema
    rest["allOf"] = nil
    var merged = JSONValue.object(rest)
    for (index, part) in list.enumerated() {
      let place = "\(path)/allOf/\(index)"
      merged = try SchemaMerge.merge(merged, try expanded(part, path: place), path: place)
    }
    return try compile(merged, path: path)
  }

  /// `schema` with the reference it consists of replaced by what it points to.
  func expanded(_ schema: JSONValue, path: String) throws(GrammarError) -> JSONValue {
    var schema = schema
    for _ in 0..<32 {
      guard let pointer = schema["$ref"]?.string, case .object(var rest) = schema else {
        return schema
      }
      rest["$ref"] = nil
      let target = try SchemaMerge.resolve(pointer, in: root, path: path)
      schema = try SchemaMerge.merge(target, .object(rest), path: path)
    }
    throw .unsupported(path: path, construct: "$ref", reason: "the references run in a circle")
  }

  private mutating func compileBranches(
    _ branches: JSONValue, _ keyword: String, in schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    guard let list = branches.array, !list.isEmpty else {
      throw .invalid(path: path, construct: keyword, expected: "a list of schemas")
    }
    if keyword == "oneOf" {
      try SchemaDisjointness(compiler: self).check(list, path: path)
    }
    var rest = schema
    rest[keyword] = nil
    let hasSiblings = !rest.keys.allSatisfy { SchemaMerge.annotations.contains($0) }
    var choices: [Expression] = []
    for (index, branch) in list.enumerated() {
      let place = "\(path)/\(keyword)/\(index)"
      let whole =
        hasSiblings
        ? try SchemaMerge.merge(
          .object(rest), try expanded(branch, path: place), path: place) : branch
      choices.append(try compile(whole, path: place))
    }
    return .choice(choices)
  }

  /// `enum` and `const`: those of the listed values that the rest of the schema allows.
  private mutating func compileValues(
    _ schema: JSONObject, path: String
  ) throws(GrammarError) -> Expression {
    var values: [JSONValue]
    if let list = schema["enum"] {
      guard let array = list.array, !array.isEmpty else {
        throw .invalid(path: path, construct: "enum", expected: "a list of values")
      }
      values = array
      if let value = schema["const"] { values = values.filter { $0 == value } }
    } else {
      values = schema["const"].map { [$0] } ?? []
    }
    var rest = schema
    rest["enum"] = nil
    rest["const"] = nil
    if !rest.keys.allSatisfy({ SchemaMerge.annotations.contains($0) }) {
      let allowed = try compile(rest, path: path)
      let grammar = try? Grammar(allowed, builder)
      values = values.filter { value in
        grammar.map { $0.accepts(Array(value.text().utf8)) } ?? false
      }
    }
    guard !values.isEmpty else { throw .unsatisfiable(path: path) }
    return try builder.leaf(.choice(values.map(Self.literal)), path: path)
  }

  /// The one value, with white space as everywhere.
  private static func literal(_ value: JSONValue) -> Expression {
    func list(_ open: String, _ parts: [Expression], _ close: String) -> Expression {
      var all: [Expression] = [.text(open), Texts.space]
      for (index, part) in parts.enumerated() {
        if index > 0 { all += [.text(","), Texts.space] }
        all.append(part)
      }
      if !parts.isEmpty { all.append(Texts.space) }
      return .sequence(all + [.text(close)])
    }
    switch value {
    case .array(let elements): return list("[", elements.map(literal), "]")
    case .object(let object):
      let members = object.members.map { member in
        let key = Expression.text(JSONValue.string(member.key).text() + ":")
        return Expression.sequence([key, Texts.oneSpace, literal(member.value)])
      }
      return list("{", members, "}")
    default: return .text(value.text())
    }
  }

  // MARK: Anything

  /// Any JSON value.
  mutating func anyValue() -> Expression {
    if let anyRule { return .rule(anyRule) }
    let rule = builder.declareRule()
    anyRule = rule
    let scalars: [Expression] = [Texts.jsonString, NumberTexts.number, .text("true")]
    let leaves = (scalars + [.text("false"), .text("null")]).map { text -> Expression in
      (try? builder.leaf(text, path: "$")) ?? .never
    }
    let list = Expression.sequence([
      .text("["), Texts.space,
      .optional(
        .sequence([
          .rule(rule),
          .repeated(
            .sequence([.text(","), Texts.space, .rule(rule)]), min: 0, max: nil),
          Texts.space,
        ])), .text("]"),
    ])
    builder.define(rule, .choice(leaves + [list, anyObject()]))
    return .rule(rule)
  }

  /// Any JSON object.
  mutating func anyObject() -> Expression {
    let value = anyValue()
    let key = (try? builder.leaf(Texts.jsonString, path: "$")) ?? .never
    return Self.object([], additional: .sequence([key, .text(":"), Texts.oneSpace, value]))
  }

  static func object(_ members: [Member], additional: Expression?) -> Expression {
    .sequence([
      .text("{"), Texts.space, .members(members, additional: additional), .text("}"),
    ])
  }
}

extension Grammar {
  /// Whether the whole of `bytes` is an output of the grammar.
  package func accepts(_ bytes: [UInt8]) -> Bool {
    withSpace { space, grammar in
      var configuration = space.start(grammar)
      for byte in bytes { configuration = space.next(configuration, byte, grammar) }
      return space.isAccepting(configuration)
    }
  }
}
