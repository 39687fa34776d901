extension JinjaInterpreter {
  /// Filters that go through the parts of a value.
  static let sequenceFilters: Set<String> = [
    "batch", "count", "dictsort", "first", "groupby", "items", "join", "last", "length", "list",
    "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort",
    "sum", "unique",
  ]

  mutating func applySequenceFilter(
    _ name: String, _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    switch name {
    case "length", "count": return .integer(try length(of: value))
    case "list": return .list(try items(of: value))
    case "first": return try items(of: value).first ?? .undefined("the first item of nothing")
    case "last": return try items(of: value).last ?? .undefined("the last item of nothing")
    case "items":
      if value.isUndefined { return .list([]) }
      guard case .mapping(let mapping) = value else {
        throw .wrongKind(line: line, operation: "the filter 'items'", kind: value.kind)
      }
      return .list(mapping.entries.map { .tuple([$0.key, $0.value]) })
    case "reverse":
      if case .string(let text) = value {
        return .string(String(String.UnicodeScalarView(text.unicodeScalars.reversed())))
      }
      return .list(try items(of: value).reversed())
    case "join": return try joined(value, &arguments)
    case "map": return try mapped(value, &arguments)
    case "select", "reject", "selectattr", "rejectattr":
      return try selected(name, value, &arguments)
    case "sort", "unique", "min", "max", "groupby", "dictsort":
      return try ordered(name, value, &arguments)
    case "sum": return try summed(value, &arguments)
    default: return try grouped(name, value, &arguments)
    }
  }

  private func length(of value: JinjaValue) throws(TemplateError) -> Int {
    switch value {
    case .string(let text): return text.scalarCount
    case .list(let elements), .tuple(let elements): return elements.count
    case .mapping(let mapping): return mapping.count
    case .undefined: return 0
    default: throw .wrongKind(line: line, operation: "the length", kind: value.kind)
    }
  }

  /// `item.a.b.0`: what the argument `attribute` of many filters means.
  private func value(
    at path: JinjaValue, of item: JinjaValue, default fallback: JinjaValue? = nil
  ) throws(TemplateError) -> JinjaValue {
    guard case .string(let text) = path else { return try self.item(path, of: item) }
    var result = item
    for part in text.split(separator: ".", omittingEmptySubsequences: false) {
      let key = Int(part).map { JinjaValue.integer($0) } ?? .string(String(part))
      result = try self.item(key, of: result)
      if let fallback, result.isUndefined { result = fallback }
    }
    return result
  }

  private mutating func joined(
    _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    let separator = arguments.next("d")?.text ?? ""
    let attribute = arguments.next("attribute")
    var parts: [String] = []
    for item in try items(of: value) {
      let part = try attribute.map { path throws(TemplateError) in
        try self.value(at: path, of: item)
      }
      parts.append(try text(of: part ?? item))
    }
    return .string(parts.joined(separator: separator))
  }

  private mutating func mapped(
    _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    var results: [JinjaValue] = []
    let all = try items(of: value)
    let (positional, named) = arguments.rest()
    if let path = named.first(where: { $0.name == "attribute" })?.value, positional.isEmpty {
      let fallback = named.first { $0.name == "default" }?.value
      for item in all { results.append(try self.value(at: path, of: item, default: fallback)) }
      return .list(results)
    }
    guard case .string(let filter)? = positional.first else {
      throw arguments.problem("needs a filter or an attribute")
    }
    let call = JinjaCallArguments(positional: Array(positional.dropFirst()), named: named)
    for item in all {
      try countStep()
      let reader = JinjaArgumentReader(filter, call, line: line)
      results.append(try applyFilter(filter, item, reader))
    }
    return .list(results)
  }

  private mutating func selected(
    _ name: String, _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    let all = try items(of: value)
    let path = name.hasSuffix("attr") ? try arguments.required("attribute") : nil
    let rest = arguments.rest().positional
    let wanted = name.hasPrefix("select")
    var results: [JinjaValue] = []
    for item in all {
      try countStep()
      let subject = try path.map { path throws(TemplateError) in
        try self.value(at: path, of: item)
      }
      let isTrue: Bool
      if let test = rest.first {
        isTrue = try applyTest(test.text, subject ?? item, Array(rest.dropFirst()))
      } else {
        isTrue = (subject ?? item).isTrue
      }
      if isTrue == wanted { results.append(item) }
    }
    return .list(results)
  }

  private mutating func summed(
    _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    let path = arguments.next("attribute")
    var total = arguments.next("start") ?? .integer(0)
    for item in try items(of: value) {
      let part = try path.map { path throws(TemplateError) in try self.value(at: path, of: item) }
      total = try JinjaArithmetic(line: line, limits: limits).binary("+", total, part ?? item)
    }
    return total
  }

  // MARK: Order

  private mutating func ordered(
    _ name: String, _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    switch name {
    case "dictsort":
      guard case .mapping(let mapping) = value else {
        throw .wrongKind(line: line, operation: "the filter 'dictsort'", kind: value.kind)
      }
      let isExact = arguments.flag("case_sensitive", default: false)
      let place = try arguments.string("by", default: "key") == "value" ? 1 : 0
      let isReversed = arguments.flag("reverse", default: false)
      let pairs = mapping.entries.map { JinjaValue.tuple([$0.key, $0.value]) }
      return .list(
        try sorted(pairs, by: .integer(place), isExact: isExact, isReversed: isReversed))
    case "sort":
      let isReversed = arguments.flag("reverse", default: false)
      let isExact = arguments.flag("case_sensitive", default: false)
      let path = arguments.next("attribute")
      return .list(
        try sorted(try items(of: value), by: path, isExact: isExact, isReversed: isReversed))
    case "groupby":
      let path = try arguments.required("attribute")
      let fallback = arguments.next("default")
      return .list(try groups(try items(of: value), by: path, default: fallback))
    case "unique":
      let isExact = arguments.flag("case_sensitive", default: false)
      let path = arguments.next("attribute")
      return .list(try unique(try items(of: value), by: path, isExact: isExact))
    default:
      let isExact = arguments.flag("case_sensitive", default: false)
      let path = arguments.next("attribute")
      // Both take the first of equals: sorting is stable, reversed sorting too.
      let all = try sorted(
        try items(of: value), by: path, isExact: isExact, isReversed: name == "max")
      return all.first ?? .undefined("the \(name) of nothing")
    }
  }

  /// What an item is ordered by: several attributes may be named, separated by commas.
  private func sortKey(
    _ item: JinjaValue, by path: JinjaValue?, isExact: Bool
  ) throws(TemplateError) -> JinjaValue {
    func folded(_ value: JinjaValue) -> JinjaValue {
      if case .string(let text) = value, !isExact { return .string(text.lowercased()) }
      return value
    }
    guard let path else { return folded(item) }
    guard case .string(let text) = path, text.contains(",") else {
      return folded(try value(at: path, of: item))
    }
    var keys: [JinjaValue] = []
    for part in text.split(separator: ",") {
      keys.append(folded(try value(at: .string(String(part)), of: item)))
    }
    return .list(keys)
  }

  private func sorted(
    _ all: [JinjaValue], by path: JinjaValue?, isExact: Bool, isReversed: Bool
  ) throws(TemplateError) -> [JinjaValue] {
    var keyed: [(key: JinjaValue, place: Int)] = []
    for (place, item) in all.enumerated() {
      keyed.append((try sortKey(item, by: path, isExact: isExact), place))
    }
    var mismatch: TemplateError?
    keyed.sort { left, right in
      let (first, second) = isReversed ? (right, left) : (left, right)
      if let isLess = first.key.isLess(than: second.key) {
        if isLess { return true }
        if second.key.isLess(than: first.key) == true { return false }
      } else {
        mismatch = .wrongKind(
          line: line, operation: "sorting after a \(first.key.kind)", kind: second.key.kind)
      }
      return left.place < right.place
    }
    if let mismatch { throw mismatch }
    return keyed.map { all[$0.place] }
  }

  private func groups(
    _ all: [JinjaValue], by path: JinjaValue, default fallback: JinjaValue?
  ) throws(TemplateError) -> [JinjaValue] {
    var groups: [(key: JinjaValue, items: [JinjaValue])] = []
    for item in try sorted(all, by: path, isExact: false, isReversed: false) {
      let key = try value(at: path, of: item, default: fallback)
      let folded = try sortKey(item, by: path, isExact: false)
      if let last = groups.last,
        try sortKey(last.items[0], by: path, isExact: false)
          .isEqual(to: folded)
      {
        groups[groups.count - 1].items.append(item)
      } else {
        groups.append((key, [item]))
      }
    }
    return groups.map { .tuple([$0.key, .list($0.items)]) }
  }

  private mutating func unique(
    _ all: [JinjaValue], by path: JinjaValue?, isExact: Bool
  ) throws(TemplateError) -> [JinjaValue] {
    var seen: [JinjaValue] = []
    var kept: [JinjaValue] = []
    for item in all {
      try countStep()
      let key = try sortKey(item, by: path, isExact: isExact)
      if seen.contains(where: { $0.isEqual(to: key) }) { continue }
      seen.append(key)
      kept.append(item)
    }
    return kept
  }

  // MARK: Tables

  private func grouped(
    _ name: String, _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    let all = try items(of: value)
    let count = try arguments.integer(name == "batch" ? "linecount" : "slices", default: 0)
    let fill = arguments.next("fill_with")
    guard count > 0, count <= limits.rangeLength else {
      throw arguments.problem("the count must be positive")
    }
    var rows: [[JinjaValue]] = []
    if name == "batch" {
      for start in stride(from: 0, to: all.count, by: count) {
        rows.append(Array(all[start..<min(start + count, all.count)]))
      }
      if let fill, let last = rows.indices.last {
        rows[last] += Array(repeating: fill, count: count - rows[last].count)
      }
      return .list(rows.map { .list($0) })
    }
    let (size, extra) = all.count.quotientAndRemainder(dividingBy: count)
    var start = 0
    for index in 0..<count {
      let end = start + size + (index < extra ? 1 : 0)
      var row = Array(all[start..<end])
      if let fill, index >= extra, extra > 0 { row.append(fill) }
      rows.append(row)
      start = end
    }
    return .list(rows.map { .list($0) })
  }
}
