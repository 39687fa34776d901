package import JSONScanning

/// One object of a document with its place, for reading members with typed errors.
package struct DocumentNode {
  /// Where the object stands, for messages.
  package let file: String
  package let place: String
  private let object: JSONObject

  package init(
    _ value: JSONValue, file: String, place: String, allowed: [String]
  ) throws(CostModelError) {
    guard case .object(let object) = value else {
      throw .malformedDocument(file: file, place: place, fact: "an object was expected")
    }
    for member in object.members where !allowed.contains(member.key) {
      throw .unknownKey(
        file: file, place: place, key: member.key,
        nearest: nearestName(to: member.key, among: allowed))
    }
    self.file = file
    self.place = place
    self.object = object
  }

  /// The member `key`; nil where it is absent or null.
  package func value(_ key: String) -> JSONValue? {
    guard let value = object[key], !value.isNull else {
      return nil
    }
    return value
  }

  /// An error that says what is wrong with the member `key`.
  package func failure(_ key: String, _ fact: String) -> CostModelError {
    .malformedDocument(file: file, place: place, fact: "\"\(key)\" \(fact)")
  }

  /// The string `key`, nil where it is absent.
  package func optionalString(_ key: String) throws(CostModelError) -> String? {
    guard let value = value(key) else { return nil }
    guard case .string(let text) = value else { throw failure(key, "must be a string") }
    return text
  }

  /// The string `key`.
  package func string(_ key: String) throws(CostModelError) -> String {
    guard let text = try optionalString(key) else { throw failure(key, "is missing") }
    return text
  }

  /// The number `key`, nil where it is absent.
  package func optionalNumber(_ key: String) throws(CostModelError) -> Double? {
    guard let value = value(key) else { return nil }
    guard let number = value.number else { throw failure(key, "must be a number") }
    return number
  }

  /// The positive number `key`.
  package func positiveNumber(_ key: String) throws(CostModelError) -> Double {
    guard let number = try optionalPositiveNumber(key) else { throw failure(key, "is missing") }
    return number
  }

  /// The positive number `key`, nil where it is absent.
  package func optionalPositiveNumber(_ key: String) throws(CostModelError) -> Double? {
    guard let number = try optionalNumber(key) else { return nil }
    guard number > 0, number.isFinite else {
      throw .notPositive(quantity: "\(place) \(key)", value: number)
    }
    return number
  }

  /// The whole number `key`, at least 0, nil where it is absent.
  package func optionalCount(_ key: String) throws(CostModelError) -> Int? {
    guard let number = try optionalNumber(key) else { return nil }
    guard number >= 0, number == number.rounded(), number < 1e15 else {
      throw failure(key, "must be a whole number, at least 0")
    }
    return Int(number)
  }

  /// The whole number `key`, at least 0.
  package func count(_ key: String) throws(CostModelError) -> Int {
    guard let count = try optionalCount(key) else { throw failure(key, "is missing") }
    return count
  }

  /// The whole number `key`, at least 1.
  package func positiveCount(_ key: String) throws(CostModelError) -> Int {
    let count = try count(key)
    guard count > 0 else { throw .notPositive(quantity: "\(place) \(key)", value: 0) }
    return count
  }

  /// The truth value `key`, nil where it is absent.
  package func optionalBool(_ key: String) throws(CostModelError) -> Bool? {
    guard let value = value(key) else { return nil }
    guard case .boolean(let flag) = value else { throw failure(key, "must be true or false") }
    return flag
  }

  /// The elements of the array `key`, none where it is absent.
  package func elements(_ key: String) throws(CostModelError) -> [JSONValue] {
    guard let value = value(key) else { return [] }
    guard case .array(let values) = value else { throw failure(key, "must be an array") }
    return values
  }

  /// The strings of the array `key`, none where it is absent.
  package func strings(_ key: String) throws(CostModelError) -> [String] {
    var texts: [String] = []
    for element in try elements(key) {
      guard case .string(let text) = element else { throw failure(key, "must hold strings") }
      texts.append(text)
    }
    return texts
  }
}
