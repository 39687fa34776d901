internal import JSONScanning

/// A value while a template runs.
///
/// All are values: the sandbox of transformers forbids changing lists and mappings, so nothing
/// needs to be shared but namespaces, which exist to be changed.
indirect enum JinjaValue {
  /// Something that does not exist; the text says what, for errors.
  case undefined(String)
  case none
  case boolean(Bool)
  case integer(Int)
  case float(Double)
  case string(String)
  case list([JinjaValue])
  case tuple([JinjaValue])
  case mapping(JinjaMapping)
  case namespace(JinjaNamespace)
  case macro(JinjaMacro)
  case function(String)
  case method(JinjaValue, String)
  case loop(JinjaLoopState)
  case cycler(JinjaCycler)
  case joiner(JinjaCycler)

  /// What errors call values of this kind.
  var kind: String {
    switch self {
    case .undefined: return "undefined"
    case .none: return "none"
    case .boolean: return "boolean"
    case .integer: return "integer"
    case .float: return "float"
    case .string: return "string"
    case .list: return "list"
    case .tuple: return "tuple"
    case .mapping: return "mapping"
    case .namespace: return "namespace"
    case .macro: return "macro"
    case .function, .method: return "function"
    case .loop: return "loop"
    case .cycler: return "cycler"
    case .joiner: return "joiner"
    }
  }

  /// The value of a JSON value.
  init(_ json: JSONValue) {
    switch json {
    case .null: self = .none
    case .boolean(let value): self = .boolean(value)
    case .integer(let value): self = .integer(value)
    case .number(let value): self = .float(value)
    case .string(let value): self = .string(value)
    case .array(let elements): self = .list(elements.map(JinjaValue.init))
    case .object(let object):
      var mapping = JinjaMapping()
      for member in object.members { mapping[.string(member.key)] = JinjaValue(member.value) }
      self = .mapping(mapping)
    }
  }

  /// The value of a constant in the source.
  init(_ constant: JinjaConstant) {
    switch constant {
    case .none: self = .none
    case .boolean(let value): self = .boolean(value)
    case .integer(let value): self = .integer(value)
    case .float(let value): self = .float(value)
    case .string(let value): self = .string(value)
    }
  }

  var isUndefined: Bool {
    if case .undefined = self { return true }
    return false
  }

  /// Python's truth value.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: return false
    case .boolean(let value): return value
    case .integer(let value): return value != 0
    case .float(let value): return value != 0
    case .string(let value): return !value.isEmpty
    case .list(let elements), .tuple(let elements): return !elements.isEmpty
    case .mapping(let mapping): return !mapping.isEmpty
    case .namespace, .macro, .function, .method, .loop, .cycler, .joiner: return true
    }
  }

  /// The value as a number where Python's arithmetic takes it for one.
  var number: JinjaNumber? {
    switch self {
    case .boolean(let value): return .integer(value ? 1 : 0)
    case .integer(let value): return .integer(value)
    case .float(let value): return .float(value)
    default: return nil
    }
  }

  /// The integer that this is, truth values counted as 0 and 1.
  var integer: Int? {
    if case .integer(let value) = number { return value }
    return nil
  }

  /// The elements of a list or tuple.
  var elements: [JinjaValue]? {
    switch self {
    case .list(let elements), .tuple(let elements): return elements
    default: return nil
    }
  }

  var string: String? {
    if case .string(let value) = self { return value }
    return nil
  }
}

/// A number as Python's arithmetic sees it.
enum JinjaNumber {
  case integer(Int)
  case float(Double)

  var double: Double {
    switch self {
    case .integer(let value): return Double(value)
    case .float(let value): return value
    }
  }

  var value: JinjaValue {
    switch self {
    case .integer(let value): return .integer(value)
    case .float(let value): return .float(value)
    }
  }
}

/// A mapping that keeps the order in which its keys came.
struct JinjaMapping {
  /// A key by Python's equality: equal numbers are one key whatever their type.
  private enum Key: Hashable {
    case none
    case number(Double)
    case text([UInt8])
    case tuple([Key])
  }

  private(set) var entries: [(key: JinjaValue, value: JinjaValue)] = []
  private var places: [Key: Int] = [:]

  var isEmpty: Bool { entries.isEmpty }
  var count: Int { entries.count }

  private static func key(_ value: JinjaValue) -> Key? {
    switch value {
    case .none: return .some(.none)
    case .string(let text): return .text(Array(text.utf8))
    case .tuple(let elements):
      var keys: [Key] = []
      for element in elements {
        guard let key = key(element) else { return nil }
        keys.append(key)
      }
      return .tuple(keys)
    default: return value.number.map { .number($0.double) }
    }
  }

  /// Whether Python could use `value` as a key.
  static func canHold(key value: JinjaValue) -> Bool { key(value) != nil }

  /// The value of `key`; setting keeps the place of a key that is there. A value that cannot be a
  /// key is ignored when set: callers ask `canHold` first.
  subscript(key: JinjaValue) -> JinjaValue? {
    get {
      guard let key = Self.key(key), let place = places[key] else { return nil }
      return entries[place].value
    }
    set {
      guard let hashed = Self.key(key), let newValue else { return }
      if let place = places[hashed] {
        entries[place].value = newValue
      } else {
        places[hashed] = entries.count
        entries.append((key, newValue))
      }
    }
  }

  subscript(text: String) -> JinjaValue? { self[.string(text)] }
}

/// A namespace: the only thing that a template can change.
final class JinjaNamespace {
  var members: JinjaMapping

  init(_ members: JinjaMapping) { self.members = members }
}

/// A macro together with the scope it was defined in.
final class JinjaMacro {
  let definition: JinjaMacroDefinition
  let scope: JinjaScope
  let line: Int

  init(_ definition: JinjaMacroDefinition, scope: JinjaScope, line: Int) {
    self.definition = definition
    self.scope = scope
    self.line = line
  }
}

/// What `cycler(...)` and `joiner(...)` give: values handed out in turn.
final class JinjaCycler {
  let items: [JinjaValue]
  var position = 0

  init(_ items: [JinjaValue]) { self.items = items }
}

/// What `loop` names inside a loop.
final class JinjaLoopState {
  let items: [JinjaValue]
  let depth: Int
  let statement: JinjaLoop
  let scope: JinjaScope
  var index = 0
  var lastChanged: [JinjaValue]?

  init(_ items: [JinjaValue], depth: Int, statement: JinjaLoop, scope: JinjaScope) {
    self.items = items
    self.depth = depth
    self.statement = statement
    self.scope = scope
  }

  /// The member `name`, nil when a loop has none of that name.
  func member(_ name: String) -> JinjaValue? {
    switch name {
    case "index": return .integer(index + 1)
    case "index0": return .integer(index)
    case "revindex": return .integer(items.count - index)
    case "revindex0": return .integer(items.count - index - 1)
    case "first": return .boolean(index == 0)
    case "last": return .boolean(index == items.count - 1)
    case "length": return .integer(items.count)
    case "depth": return .integer(depth + 1)
    case "depth0": return .integer(depth)
    case "previtem": return index > 0 ? items[index - 1] : .undefined("there is no previous item")
    case "nextitem":
      return index + 1 < items.count ? items[index + 1] : .undefined("there is no next item")
    default: return nil
    }
  }
}

/// Variables of a part of a template, and the scope around it.
final class JinjaScope {
  let parent: JinjaScope?
  private var variables: [String: JinjaValue] = [:]

  init(parent: JinjaScope?) { self.parent = parent }

  func value(of name: String) -> JinjaValue? {
    var scope: JinjaScope? = self
    while let here = scope {
      if let value = here.variables[name] { return value }
      scope = here.parent
    }
    return nil
  }

  func set(_ name: String, _ value: JinjaValue) { variables[name] = value }

  /// Forgets everything, so that macros and their scopes do not keep each other alive.
  func removeAll() { variables.removeAll() }
}
