import JSONScanning

/// The parsed, fully checked header of one safetensors file.
///
/// The format: eight bytes little-endian header length, that many bytes of JSON, then the data.
/// Everything is checked before a tensor is handed out: offsets, sizes, overlaps, types.
package struct SafetensorsHeader: Sendable {
  /// One tensor's place in the file.
  package struct Entry: Sendable, Equatable {
    /// The name in the header.
    package let name: String
    /// How its elements are stored.
    package let elementType: ElementType
    /// Row-major dimensions.
    package let shape: [Int]
    /// Bytes from the start of the file.
    package let range: Range<Int>
  }

  /// The tensors in file order.
  package let entries: [Entry]
  /// The free-form `__metadata__` strings.
  package let metadata: [(key: String, value: String)]

  static let headerLengthLimit: UInt64 = 100_000_000

  /// Parses and checks the header of a mapped file.
  package init(_ file: MappedFile) throws(SafetensorsError) {
    let path = file.path
    guard file.byteCount >= 8 else {
      throw .truncatedHeader(path: path, needed: 8, found: file.byteCount)
    }
    let contents = file.contents
    let length = contents.load(UInt64.self, at: 0).littleEndian
    guard length <= Self.headerLengthLimit else {
      throw .absurdHeaderLength(path: path, length: length)
    }
    let dataStart = 8 + Int(length)
    guard dataStart <= file.byteCount else {
      throw .truncatedHeader(path: path, needed: dataStart, found: file.byteCount)
    }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: contents[8..<dataStart].bytes())
    } catch {
      throw .malformedHeader(path: path, reason: "\(error)")
    }
    guard case .object(let members) = json else {
      throw .malformedHeader(path: path, reason: "the top level is not an object")
    }
    var entries: [Entry] = []
    var metadata: [(key: String, value: String)] = []
    for member in members.members {
      let (name, value) = (member.key, member.value)
      if name == "__metadata__" {
        if case .object(let pairs) = value {
          for pair in pairs.members {
            if let text = pair.value.string { metadata.append((pair.key, text)) }
          }
        }
        continue
      }
      let entry = try Self.entry(
        name, value, path: path, dataStart: dataStart, fileSize: file.byteCount)
      entries.append(entry)
    }
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    for (first, second) in zip(entries, entries.dropFirst())
    where second.range.lowerBound < first.range.upperBound && !second.range.isEmpty {
      throw .overlap(path: path, first: first.name, second: second.name)
    }
    self.entries = entries
    self.metadata = metadata
  }

  private static func entry(
    _ name: String, _ value: JSONValue, path: String, dataStart: Int, fileSize: Int
  ) throws(SafetensorsError) -> Entry {
    func malformed(_ reason: String) -> SafetensorsError {
      .malformedEntry(path: path, tensor: name, reason: reason)
    }
    guard case .object = value else { throw malformed("the entry is not an object") }
    guard case .string(let typeName)? = value["dtype"] else { throw malformed("dtype is missing") }
    guard let type = ElementType(rawValue: typeName) else {
      throw .unknownElementType(path: path, tensor: name, found: typeName)
    }
    guard case .array(let dimensions)? = value["shape"] else { throw malformed("shape is missing") }
    var shape: [Int] = []
    var byteCount = type.byteWidth
    for dimension in dimensions {
      guard let size = dimension.integer, size >= 0 else {
        throw malformed("shape holds \(dimension), not a count")
      }
      shape.append(size)
      let (product, overflow) = byteCount.multipliedReportingOverflow(by: size)
      guard !overflow else { throw malformed("shape \(shape) is absurdly large") }
      byteCount = product
    }
    guard case .array(let offsets)? = value["data_offsets"], offsets.count == 2,
      let begin = offsets[0].integer, let end = offsets[1].integer
    else { throw malformed("data_offsets is not a pair of byte positions") }
    let available = fileSize - dataStart
    guard begin >= 0, begin <= end, end <= available else {
      throw .outOfRange(path: path, tensor: name, begin: begin, end: end, available: available)
    }
    guard end - begin == byteCount else {
      throw .sizeMismatch(path: path, tensor: name, expected: byteCount, found: end - begin)
    }
    return Entry(
      name: name, elementType: type, shape: shape, range: dataStart + begin..<dataStart + end)
  }
}
