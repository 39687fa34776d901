import JSONScanning

/// Where a configuration value came from.
package enum ValueOrigin: String, Sendable {
  case file
  case classDefault = "default"
}

/// One configuration value as it is used, and where it came from.
package struct ConfigurationEntry: Sendable, Equatable {
  /// Dotted path in config.json, such as `text_config.hidden_size`.
  package let field: String
  /// The value in JSON's spelling.
  package let value: String
  /// Read from the file, or the model class's default.
  package let origin: ValueOrigin
}

/// Reads typed fields of one JSON object and records where each value came from.
struct ConfigurationReader {
  let path: String
  let prefix: String
  let object: JSONValue
  private(set) var entries: [ConfigurationEntry] = []

  init(path: String, prefix: String, object: JSONValue) {
    self.path = path
    self.prefix = prefix
    self.object = object
  }

  /// The value of `key`, nil when absent or null.
  func value(_ key: String) -> JSONValue? {
    guard let value = object[key], !value.isNull else { return nil }
    return value
  }

  /// Whether the key is written at all, null included.
  func has(_ key: String) -> Bool { object[key] != nil }

  /// Adds the entries of another section.
  mutating func append(_ more: [ConfigurationEntry]) { entries += more }

  mutating func note(_ key: String, _ value: String, _ origin: ValueOrigin) {
    entries.append(ConfigurationEntry(field: prefix + key, value: value, origin: origin))
  }

  /// An integer in `range`; `classDefault` when absent.
  mutating func integer(
    _ key: String, classDefault: Int, in range: ClosedRange<Int> = 1...(1 << 31)
  ) throws(ConfigurationError) -> Int {
    guard let json = value(key) else {
      note(key, "\(classDefault)", .classDefault)
      return classDefault
    }
    guard let number = json.integer else { throw wrongType(key, "an integer", json) }
    guard range.contains(number) else {
      throw unsupported(
        key, "\(number)", "it must lie between \(range.lowerBound) and \(range.upperBound)")
    }
    note(key, "\(number)", .file)
    return number
  }

  /// A finite number above zero; `classDefault` when absent.
  mutating func positive(
    _ key: String, classDefault: Double
  ) throws(ConfigurationError) -> Double {
    guard let json = value(key) else {
      note(key, "\(classDefault)", .classDefault)
      return classDefault
    }
    guard let number = json.number else { throw wrongType(key, "a number", json) }
    guard number > 0, number.isFinite else {
      throw unsupported(key, "\(number)", "it must be a positive number")
    }
    note(key, "\(number)", .file)
    return number
  }

  mutating func bool(_ key: String, classDefault: Bool) throws(ConfigurationError) -> Bool {
    guard let json = value(key) else {
      note(key, "\(classDefault)", .classDefault)
      return classDefault
    }
    guard case .boolean(let flag) = json else { throw wrongType(key, "true or false", json) }
    note(key, "\(flag)", .file)
    return flag
  }

  func string(_ key: String) throws(ConfigurationError) -> String? {
    guard let json = value(key) else { return nil }
    guard case .string(let text) = json else { throw wrongType(key, "a string", json) }
    return text
  }

  /// A list of integers, or a single integer as a list of one.
  func integers(_ key: String) throws(ConfigurationError) -> [Int]? {
    guard let json = value(key) else { return nil }
    if let single = json.integer { return [single] }
    guard case .array(let items) = json else { throw wrongType(key, "a list of integers", json) }
    var numbers: [Int] = []
    for item in items {
      guard let number = item.integer else { throw wrongType(key, "a list of integers", json) }
      numbers.append(number)
    }
    return numbers
  }

  func numbers(_ key: String) throws(ConfigurationError) -> [Double]? {
    guard let json = value(key) else { return nil }
    guard case .array(let items) = json else { throw wrongType(key, "a list of numbers", json) }
    var numbers: [Double] = []
    for item in items {
      guard let number = item.number, number.isFinite else {
        throw wrongType(key, "a list of numbers", json)
      }
      numbers.append(number)
    }
    return numbers
  }

  func wrongType(_ key: String, _ expected: String, _ found: JSONValue) -> ConfigurationError {
    .wrongType(
      path: path, field: prefix + key, expected: expected, found: String(found.text().prefix(80)))
  }

  func unsupported(_ key: String, _ value: String, _ reason: String) -> ConfigurationError {
    .unsupported(path: path, field: prefix + key, value: value, reason: reason)
  }
}
