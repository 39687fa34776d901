extension String {
  /// Whether both hold the same scalars; Swift's `==` takes canonical equivalents for equal.
  func isIdentical(to other: String) -> Bool { utf8.elementsEqual(other.utf8) }

  /// Python's order of strings: by scalars.
  func precedes(_ other: String) -> Bool {
    unicodeScalars.lexicographicallyPrecedes(other.unicodeScalars)
  }
}

extension JinjaValue {
  /// Python's `==`.
  func isEqual(to other: JinjaValue) -> Bool {
    if let left = number, let right = other.number {
      if case .integer(let first) = left, case .integer(let second) = right {
        return first == second
      }
      return left.double == right.double
    }
    switch (self, other) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.string(let left), .string(let right)): return left.isIdentical(to: right)
    case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
      return left.count == right.count && zip(left, right).allSatisfy { $0.isEqual(to: $1) }
    case (.mapping(let left), .mapping(let right)):
      return left.count == right.count
        && left.entries.allSatisfy { entry in
          right[entry.key].map { $0.isEqual(to: entry.value) } ?? false
        }
    case (.namespace(let left), .namespace(let right)): return left === right
    case (.macro(let left), .macro(let right)): return left === right
    case (.function(let left), .function(let right)): return left == right
    case (.loop(let left), .loop(let right)): return left === right
    default: return false
    }
  }

  /// Python's `<`; nil when the two have no order.
  func isLess(than other: JinjaValue) -> Bool? {
    if let left = number, let right = other.number {
      if case .integer(let first) = left, case .integer(let second) = right {
        return first < second
      }
      return left.double < right.double
    }
    switch (self, other) {
    case (.string(let left), .string(let right)): return left.precedes(right)
    case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
      for (first, second) in zip(left, right) where !first.isEqual(to: second) {
        return first.isLess(than: second)
      }
      return left.count < right.count
    default: return nil
    }
  }

  /// Python's `element in self`; nil when this can contain nothing.
  func contains(_ element: JinjaValue) -> Bool? {
    switch self {
    case .string(let text):
      guard case .string(let part) = element else { return nil }
      return text.scalarRange(of: part) != nil
    case .list(let elements), .tuple(let elements):
      return elements.contains { $0.isEqual(to: element) }
    case .mapping(let mapping): return mapping[element] != nil
    case .undefined: return false
    default: return nil
    }
  }
}
