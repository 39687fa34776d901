/// The members of a JSON object in their order, found by key.
package struct JSONObject: Sendable {
  /// One member of an object.
  package struct Member: Sendable, Equatable {
    /// The name.
    package let key: String
    /// What it names.
    package var value: JSONValue

    /// A member `key: value`.
    package init(key: String, value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  /// The members in order.
  package private(set) var members: [Member] = []
  /// Places by key, kept only when there are too many members to search one by one.
  private var places: [String: Int] = [:]
  private static let linearSearchLimit = 8

  /// An object without members.
  package init() {}

  /// The number of members.
  package var count: Int { members.count }

  /// Whether there are no members.
  package var isEmpty: Bool { members.isEmpty }

  /// The keys in order.
  package var keys: [String] { members.map(\.key) }

  /// The value of `key`; setting an absent key appends it, setting nil removes it.
  package subscript(key: String) -> JSONValue? {
    get { place(of: key).map { members[$0].value } }
    set {
      switch (place(of: key), newValue) {
      case (let place?, let value?): members[place].value = value
      case (let place?, nil):
        members.remove(at: place)
        rebuildPlaces()
      case (nil, let value?):
        members.append(Member(key: key, value: value))
        if places.isEmpty { rebuildPlaces() } else { places[key] = members.count - 1 }
      case (nil, nil): break
      }
    }
  }

  /// Keys are compared by their UTF-8 bytes: canonically equivalent spellings are two keys.
  private func place(of key: String) -> Int? {
    guard members.count > Self.linearSearchLimit else {
      return members.firstIndex { $0.key.utf8.elementsEqual(key.utf8) }
    }
    guard let place = places[key] else { return nil }
    if members[place].key.utf8.elementsEqual(key.utf8) { return place }
    return members.firstIndex { $0.key.utf8.elementsEqual(key.utf8) }
  }

  private mutating func rebuildPlaces() {
    places.removeAll(keepingCapacity: true)
    guard members.count > Self.linearSearchLimit else { return }
    for (index, member) in members.enumerated() { places[member.key] = index }
  }
}

extension JSONObject: Equatable {
  /// Equal members in equal order.
  package static func == (left: JSONObject, right: JSONObject) -> Bool {
    left.members == right.members
  }
}
