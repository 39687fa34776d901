internal import Foundation

/// Python's arithmetic on template values.
struct JinjaArithmetic {
  let line: Int
  var limits = JinjaInterpreter.Limits()

  /// `-value` or `+value`.
  func unary(_ symbol: String, _ value: JinjaValue) throws(TemplateError) -> JinjaValue {
    switch value.number {
    case .integer(let number):
      guard symbol == "-" else { return .integer(number) }
      let (result, overflow) = (0).subtractingReportingOverflow(number)
      guard !overflow else { throw overflowError }
      return .integer(result)
    case .float(let number): return .float(symbol == "-" ? -number : number)
    case nil: throw mismatch(symbol, value, value)
    }
  }

  /// `left symbol right`.
  func binary(
    _ symbol: String, _ left: JinjaValue, _ right: JinjaValue
  ) throws(TemplateError) -> JinjaValue {
    for value in [left, right] {
      if case .undefined(let what) = value { throw .undefined(line: line, name: what) }
    }
    if let first = left.number, let second = right.number {
      if case .integer(let a) = first, case .integer(let b) = second {
        return try integers(symbol, a, b)
      }
      return try floats(symbol, first.double, second.double)
    }
    switch (symbol, left, right) {
    case ("+", .string(let a), .string(let b)): return .string(a + b)
    case ("+", .list(let a), .list(let b)): return .list(try limited(a + b))
    case ("+", .tuple(let a), .tuple(let b)): return .tuple(try limited(a + b))
    case ("*", _, _):
      if let count = right.integer { return try repeated(left, count) }
      if let count = left.integer { return try repeated(right, count) }
    default: break
    }
    throw mismatch(symbol, left, right)
  }

  private var overflowError: TemplateError {
    .impossible(line: line, operation: "a result exceeds 64 bits")
  }

  private func mismatch(
    _ symbol: String, _ left: JinjaValue, _ right: JinjaValue
  ) -> TemplateError {
    if case .undefined(let what) = left { return .undefined(line: line, name: what) }
    return .wrongKind(line: line, operation: "'\(symbol)' after a \(left.kind)", kind: right.kind)
  }

  private func limited(_ elements: [JinjaValue]) throws(TemplateError) -> [JinjaValue] {
    guard elements.count <= 1 << 20 else { throw .limitExceeded(line: line, .rangeLength) }
    return elements
  }

  private func repeated(_ value: JinjaValue, _ count: Int) throws(TemplateError) -> JinjaValue {
    let count = max(count, 0)
    switch value {
    case .string(let text):
      let (size, overflow) = text.utf8.count.multipliedReportingOverflow(by: count)
      guard !overflow, size <= limits.stringByteCount else {
        throw .limitExceeded(line: line, .stringBytes)
      }
      return .string(String(repeating: text, count: count))
    case .list(let elements), .tuple(let elements):
      let (size, overflow) = elements.count.multipliedReportingOverflow(by: count)
      guard !overflow, size <= 1 << 20 else { throw .limitExceeded(line: line, .rangeLength) }
      let all = Array(repeatElement(elements, count: count).joined())
      if case .list = value { return .list(all) }
      return .tuple(all)
    default: throw mismatch("*", value, .integer(count))
    }
  }

  private func integers(_ symbol: String, _ a: Int, _ b: Int) throws(TemplateError) -> JinjaValue {
    let (result, overflow): (Int, Bool)
    switch symbol {
    case "+": (result, overflow) = a.addingReportingOverflow(b)
    case "-": (result, overflow) = a.subtractingReportingOverflow(b)
    case "*": (result, overflow) = a.multipliedReportingOverflow(by: b)
    case "//", "%":
      guard b != 0 else { throw .impossible(line: line, operation: "division by zero") }
      guard b != -1 else { return symbol == "%" ? .integer(0) : try integers("*", a, -1) }
      // Python rounds quotients down, Swift towards zero.
      let quotient = a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0)
      return .integer(symbol == "//" ? quotient : a - quotient * b)
    case "**" where b >= 0:
      var power = 1
      for _ in 0..<min(b, 64) {
        let (next, hasOverflowed) = power.multipliedReportingOverflow(by: a)
        guard !hasOverflowed else { throw overflowError }
        power = next
      }
      guard b <= 64 || [-1, 0, 1].contains(a) else { throw overflowError }
      // Beyond 64 factors only the sign of -1 still changes.
      return .integer(a == -1 ? (b % 2 == 0 ? 1 : -1) : power)
    default: return try floats(symbol, Double(a), Double(b))
    }
    guard !overflow else { throw overflowError }
    return .integer(result)
  }

  private func floats(
    _ symbol: String, _ a: Double, _ b: Double
  ) throws(TemplateError) -> JinjaValue {
    switch symbol {
    case "+": return .float(a + b)
    case "-": return .float(a - b)
    case "*": return .float(a * b)
    case "**": return .float(pow(a, b))
    default: break
    }
    guard b != 0 else { throw .impossible(line: line, operation: "division by zero") }
    switch symbol {
    case "/": return .float(a / b)
    case "//": return .float((a / b).rounded(.down))
    default:
      let remainder = fmod(a, b)
      return .float(remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder)
    }
  }
}
