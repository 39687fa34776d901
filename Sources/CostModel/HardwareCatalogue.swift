import JSONScanning

/// The devices that can be asked for by name.
package struct HardwareCatalogue: Sendable {
  /// The devices, in the order of the file.
  package private(set) var entries: [Hardware]

  /// The four devices the report prices, in its order.
  package static let reportNames = ["h800", "h20", "a800", "910b"]

  /// The devices that come with the package.
  package static func builtIn() throws(CostModelError) -> HardwareCatalogue {
    try HardwareCatalogue(parsing: PackageResources.hardware_json, file: "hardware.json")
  }

  /// Reads a hardware file: an object with "hardware", or one entry alone.
  package init(parsing bytes: [UInt8], file: String) throws(CostModelError) {
    let document = try JSONValue(document: bytes, file: file)
    if document["hardware"] == nil, document["name"] != nil {
      entries = [try Hardware(document, file: file, index: 0)]
      return
    }
    let node = try DocumentNode(
      document, file: file, place: "document", allowed: ["hardware", "note"])
    var entries: [Hardware] = []
    for (index, value) in try node.elements("hardware").enumerated() {
      let entry = try Hardware(value, file: file, index: index)
      guard !entries.contains(where: { $0.name == entry.name }) else {
        throw .malformedDocument(file: file, place: entry.name, fact: "stands twice")
      }
      entries.append(entry)
    }
    self.entries = entries
  }

  /// This catalogue with `other` on top: entries of the same name are replaced.
  package func merging(_ other: HardwareCatalogue) -> HardwareCatalogue {
    var merged = self
    for entry in other.entries { merged.replace(entry) }
    return merged
  }

  /// Puts `entry` in the place of its namesake, or at the end.
  package mutating func replace(_ entry: Hardware) {
    if let index = entries.firstIndex(where: { $0.name == entry.name }) {
      entries[index] = entry
    } else {
      entries.append(entry)
    }
  }

  /// The device called `name`, whatever its case, or by an alias.
  package func hardware(named name: String) throws(CostModelError) -> Hardware {
    let wanted = name.lowercased()
    let match = entries.first {
      $0.name.lowercased() == wanted || $0.aliases.contains { $0.lowercased() == wanted }
    }
    guard let match else {
      let names = entries.map(\.name)
      throw .unknownHardware(name: name, nearest: nearestName(to: name, among: names), known: names)
    }
    return match
  }
}
