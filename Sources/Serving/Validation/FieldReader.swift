package import JSONScanning

/// Reads the members of one JSON object and names the path of what is wrong.
///
/// `null` is the same as absent, for clients send null for every option they do not use. Integers
/// written as 16.0 are taken.
package struct FieldReader {
  /// The members.
  package let object: JSONObject
  /// Where the object stands in the request, empty for the body.
  package let path: String

  package init(_ object: JSONObject, path: String = "") {
    self.object = object
    self.path = path
  }

  /// Reads the object at `value`, or says that it is none.
  package init(_ value: JSONValue, path: String) throws(APIError) {
    guard let object = value.object else {
      throw .badField(path: path, reason: "must be an object, not \(value.kindPhrase).")
    }
    self.init(object, path: path)
  }

  /// The path of a member.
  package func path(_ key: String) -> String {
    path.isEmpty ? key : "\(path).\(key)"
  }

  /// A member that is there and not null.
  package func value(_ key: String) -> JSONValue? {
    guard let value = object[key], !value.isNull else { return nil }
    return value
  }

  /// Whether a member is there and not null.
  package func has(_ key: String) -> Bool { value(key) != nil }

  private func wrong(_ key: String, _ what: String, _ value: JSONValue) -> APIError {
    .badField(path: path(key), reason: "must be \(what), not \(value.kindPhrase).")
  }

  /// A member that must be there.
  package func required(_ key: String) throws(APIError) -> JSONValue {
    guard let value = value(key) else {
      throw .badField(path: path(key), reason: "is required.")
    }
    return value
  }

  /// A string, nil when absent.
  package func string(_ key: String) throws(APIError) -> String? {
    guard let value = value(key) else { return nil }
    guard let string = value.string else { throw wrong(key, "a string", value) }
    return string
  }

  /// A string that must be there.
  package func requiredString(_ key: String) throws(APIError) -> String {
    let value = try required(key)
    guard let string = value.string else { throw wrong(key, "a string", value) }
    return string
  }

  /// A truth value, nil when absent.
  package func boolean(_ key: String) throws(APIError) -> Bool? {
    guard let value = value(key) else { return nil }
    guard let boolean = value.boolean else { throw wrong(key, "true or false", value) }
    return boolean
  }

  /// A number within `range`, nil when absent.
  package func number(
    _ key: String, in range: ClosedRange<Double>? = nil
  ) throws(APIError) -> Double? {
    guard let value = value(key) else { return nil }
    guard let number = value.number else { throw wrong(key, "a number", value) }
    if let range, !range.contains(number) {
      throw .badField(
        path: path(key),
        reason: "must be between \(range.lowerBound.plain) and \(range.upperBound.plain), "
          + "not \(number.plain).")
    }
    return number
  }

  /// A whole number within `range`, nil when absent.
  package func integer(
    _ key: String, in range: ClosedRange<Int> = Int.min...Int.max
  ) throws(APIError) -> Int? {
    guard let value = value(key) else { return nil }
    guard let integer = value.wholeNumber else { throw wrong(key, "an integer", value) }
    guard range.contains(integer) else {
      let bounds =
        range.upperBound == .max
        ? "at least \(range.lowerBound)" : "between \(range.lowerBound) and \(range.upperBound)"
      throw .badField(path: path(key), reason: "must be \(bounds), not \(integer).")
    }
    return integer
  }

  /// An array, nil when absent.
  package func array(_ key: String) throws(APIError) -> [JSONValue]? {
    guard let value = value(key) else { return nil }
    guard let array = value.array else { throw wrong(key, "an array", value) }
    return array
  }

  /// An array that must be there.
  package func requiredArray(_ key: String) throws(APIError) -> [JSONValue] {
    let value = try required(key)
    guard let array = value.array else { throw wrong(key, "an array", value) }
    return array
  }

  /// A reader of an object, nil when absent.
  package func fields(_ key: String) throws(APIError) -> FieldReader? {
    guard let value = value(key) else { return nil }
    return try FieldReader(value, path: path(key))
  }

  /// A reader of an object that must be there.
  package func requiredFields(_ key: String) throws(APIError) -> FieldReader {
    try FieldReader(try required(key), path: path(key))
  }

  /// A string or an array of strings.
  package func strings(_ key: String) throws(APIError) -> [String]? {
    guard let value = value(key) else { return nil }
    if let string = value.string { return [string] }
    guard let array = value.array else { throw wrong(key, "a string or an array of them", value) }
    var strings: [String] = []
    for (index, element) in array.enumerated() {
      guard let string = element.string else {
        throw wrong("\(key)[\(index)]", "a string", element)
      }
      strings.append(string)
    }
    return strings
  }

  /// An array of token ids, each within the vocabulary.
  package func tokenIDs(_ key: String, vocabularySize: Int) throws(APIError) -> [Int]? {
    guard let array = try array(key) else { return nil }
    return try Self.tokenIDs(array, path: path(key), vocabularySize: vocabularySize)
  }

  /// Checks a list of token ids.
  package static func tokenIDs(
    _ array: [JSONValue], path: String, vocabularySize: Int
  ) throws(APIError) -> [Int] {
    var ids: [Int] = []
    ids.reserveCapacity(array.count)
    for (index, element) in array.enumerated() {
      guard let id = element.wholeNumber, (0..<vocabularySize).contains(id) else {
        throw .badField(
          path: "\(path)[\(index)]",
          reason: "must be a token id, an integer between 0 and \(vocabularySize - 1).")
      }
      ids.append(id)
    }
    return ids
  }

  /// One of a few words.
  package func choice(_ key: String, of words: [String]) throws(APIError) -> String? {
    guard let string = try string(key) else { return nil }
    guard words.contains(string) else {
      throw .badField(
        path: path(key), reason: "must be one of \(words.joined(separator: ", ")).")
    }
    return string
  }

  /// Refuses fields of the given names, saying why.
  package func refuse(_ reasons: [(key: String, reason: String)]) throws(APIError) {
    for (key, reason) in reasons where has(key) {
      throw .badField(path: path(key), reason: reason)
    }
  }
}

extension JSONValue {
  /// The number if it is a whole one, 16.0 included.
  var wholeNumber: Int? {
    if let integer { return integer }
    guard let number, number.magnitude < 9e15 else { return nil }
    return Int(exactly: number)
  }

  /// The kind in words, for messages.
  var kindPhrase: String {
    switch kind {
    case .null: "null"
    case .boolean: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }

  /// A string, or null for nil.
  static func optional(_ string: String?) -> JSONValue {
    string.map { .string($0) } ?? .null
  }

  /// An integer, or null for nil.
  static func optional(_ integer: Int?) -> JSONValue {
    integer.map { .integer($0) } ?? .null
  }

  /// The compact text as bytes.
  var bytes: [UInt8] { Array(text(.compact).utf8) }
}

extension JSONObject {
  /// An object of these members, nil ones left out.
  init(_ members: [(String, JSONValue?)]) {
    self.init()
    for (key, value) in members {
      if let value { self[key] = value }
    }
  }
}

extension Double {
  /// Whole numbers without the fraction that `description` would print.
  var plain: String {
    if let whole = Int(exactly: self) { return "\(whole)" }
    return "\(self)"
  }
}
