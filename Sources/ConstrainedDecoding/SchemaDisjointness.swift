import JSONScanning

/// Whether the branches of a `oneOf` exclude each other, so that it means the same as `anyOf`.
struct SchemaDisjointness {
  let compiler: SchemaCompiler
  /// What comparing two branches costs, in units of the budget.
  private static let pairCost = 2000

  /// Throws unless every two of `branches` are seen to exclude each other: by type, by their
  /// values, by the value of a property both require, or by a property one requires and the other
  /// forbids.
  func check(_ branches: [JSONValue], path: String) throws(GrammarError) {
    var schemas: [JSONValue] = []
    for (index, branch) in branches.enumerated() {
      schemas.append(try compiler.expanded(branch, path: "\(path)/oneOf/\(index)"))
    }
    for first in schemas.indices {
      try compiler.builder.budget.spend(Self.pairCost * (schemas.count - first), path: path)
      for second in schemas.indices.dropFirst(first + 1)
      where !areDisjoint(schemas[first], schemas[second]) {
        throw .unsupported(
          path: path, construct: "oneOf",
          reason: "branches \(first) and \(second) may both hold; use anyOf, or a property whose "
            + "const differs")
      }
    }
  }

  private func areDisjoint(_ a: JSONValue, _ b: JSONValue) -> Bool {
    if let first = values(a), let second = values(b) {
      return first.allSatisfy { !second.contains($0) }
    }
    let (typesA, typesB) = (types(a), types(b))
    if !typesA.isEmpty, !typesB.isEmpty, typesA.isDisjoint(with: typesB) { return true }
    guard typesA == ["object"], typesB == ["object"] else { return false }
    return requires(a, whatExcludes: b) || requires(b, whatExcludes: a)
  }

  private func requires(_ a: JSONValue, whatExcludes b: JSONValue) -> Bool {
    for name in (a["required"]?.array ?? []).compactMap(\.string) {
      let inA = a["properties"]?[name].flatMap { try? compiler.expanded($0, path: "") }
      if let inB = b["properties"]?[name].flatMap({ try? compiler.expanded($0, path: "") }) {
        let isInBoth = (b["required"]?.array ?? []).contains(.string(name))
        if isInBoth, let inA, areDisjoint(inA, inB) { return true }
      } else if b["additionalProperties"] == .boolean(false) {
        return true
      }
    }
    return false
  }

  private func values(_ schema: JSONValue) -> [JSONValue]? {
    schema["enum"]?.array ?? schema["const"].map { [$0] }
  }

  /// The types a schema allows, with integers counted as numbers; empty when it does not say.
  private func types(_ schema: JSONValue) -> Set<String> {
    if let values = values(schema) {
      return Set(values.map { $0.kind.rawValue })
    }
    guard let given = schema["type"] else {
      return schema["properties"] == nil ? [] : ["object"]
    }
    return Set(SchemaMerge.types(given).map { $0 == "integer" ? "number" : $0 })
  }
}
