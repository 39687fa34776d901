package import Tensors

/// A tensor of a GGUF file: rows of encoded elements in the mapping.
package struct GGUFTensor: Sendable {
  /// The name in the file.
  package let name: String
  /// How the elements are encoded.
  package let type: BlockType
  /// Row-major dimensions, outermost first (GGUF stores them innermost first).
  package let shape: [Int]
  /// The encoded elements.
  package let bytes: ByteRegion
}

/// A GGUF file of version 2 or 3, mapped into memory and checked from end to end.
///
/// Layout: magic, version, counts, key-value pairs, tensor descriptions, padding to the alignment,
/// tensor data. All integers are little-endian.
package struct GGUFFile: Sendable {
  /// The path it was opened by.
  package let path: String
  /// The format version, 2 or 3.
  package let version: UInt32
  /// The metadata, by key.
  package let metadata: [String: GGUFValue]
  /// The keys, in the order of the file.
  package let keys: [String]
  /// The tensors, in the order of the file.
  package let tensors: [GGUFTensor]
  private let indexByName: [String: Int]

  /// Maps and checks the file at `path`.
  package init(path: String) throws(GGUFError) {
    let file: MappedFile
    do throws(FileError) { file = try MappedFile(path: path) } catch { throw .file(error) }
    try self.init(path: path, bytes: file.contents)
  }

  /// Checks a file already in memory.
  package init(path: String, bytes: ByteRegion) throws(GGUFError) {
    var cursor = GGUFCursor(path: path, bytes: bytes)
    self.path = path
    version = try Self.readVersion(&cursor)
    let tensorCount = try cursor.integer(UInt64.self, "the tensor count")
    let keyCount = try cursor.integer(UInt64.self, "the key count")
    var metadata: [String: GGUFValue] = [:]
    var keys: [String] = []
    for number in 0..<keyCount {
      let key = try cursor.string("the name of key \(number)")
      guard metadata.updateValue(try cursor.value(key), forKey: key) == nil else {
        throw .duplicateKey(path: path, key: key)
      }
      keys.append(key)
    }
    self.metadata = metadata
    self.keys = keys
    if let parts = metadata["split.count"]?.count, parts > 1 {
      throw .splitFile(path: path, parts: UInt64(parts))
    }
    let alignment = try Self.alignment(metadata, path: path)
    let descriptions = try Self.readDescriptions(&cursor, count: tensorCount)
    let dataStart = (cursor.offset + alignment - 1) / alignment * alignment
    guard dataStart <= bytes.byteCount || descriptions.isEmpty else {
      throw .truncated(
        path: path, item: "the padding before the tensor data", offset: cursor.offset,
        needed: UInt64(dataStart - cursor.offset), available: bytes.byteCount - cursor.offset)
    }
    let data = bytes[min(dataStart, bytes.byteCount)..<bytes.byteCount]
    tensors = try Self.place(descriptions, in: data, alignment: alignment, path: path)
    indexByName = Dictionary(
      uniqueKeysWithValues: tensors.enumerated().map { ($0.element.name, $0.offset) })
  }

  /// The tensor of that name.
  package func tensor(_ name: String) -> GGUFTensor? {
    indexByName[name].map { tensors[$0] }
  }

  // MARK: Typed access to the metadata

  /// The count at `key`, or nil when the key is absent.
  package func count(_ key: String) throws(GGUFError) -> Int? {
    guard let value = metadata[key] else { return nil }
    guard let count = value.count else { throw wrong(key, "a non-negative integer", value) }
    return count
  }

  /// The number at `key`, or nil when the key is absent.
  package func number(_ key: String) throws(GGUFError) -> Double? {
    guard let value = metadata[key] else { return nil }
    guard let number = value.number else { throw wrong(key, "a number", value) }
    return number
  }

  /// The text at `key`, or nil when the key is absent.
  package func string(_ key: String) throws(GGUFError) -> String? {
    guard let value = metadata[key] else { return nil }
    guard case .string(let text) = value else { throw wrong(key, "a string", value) }
    return text
  }

  /// The truth value at `key`, or nil when the key is absent.
  package func bool(_ key: String) throws(GGUFError) -> Bool? {
    guard let value = metadata[key] else { return nil }
    guard case .bool(let truth) = value else { throw wrong(key, "true or false", value) }
    return truth
  }

  /// The strings at `key`, or nil when the key is absent.
  package func strings(_ key: String) throws(GGUFError) -> [String]? {
    guard let value = metadata[key] else { return nil }
    guard case .strings(let texts) = value else { throw wrong(key, "an array of strings", value) }
    return texts
  }

  /// The value of `result`, or an error that `key` is missing.
  package func required<Value>(
    _ key: String, _ result: Value?
  ) throws(GGUFError) -> Value {
    guard let result else { throw .missingKey(path: path, key: key) }
    return result
  }

  private func wrong(_ key: String, _ expected: String, _ value: GGUFValue) -> GGUFError {
    .wrongValue(path: path, key: key, expected: expected, found: value.summary)
  }

  // MARK: Reading

  private struct Description {
    var name: String
    var shape: [UInt64]
    var type: UInt32
    var offset: UInt64
  }

  private static func readVersion(_ cursor: inout GGUFCursor) throws(GGUFError) -> UInt32 {
    let first = cursor.bytes[0..<min(4, cursor.bytes.byteCount)].bytes()
    guard first == Array("GGUF".utf8) else {
      throw .notGGUF(path: cursor.path, firstBytes: first)
    }
    cursor.offset = 4
    let version = try cursor.integer(UInt32.self, "the version")
    if version == 2 || version == 3 { return version }
    let swapped = version.byteSwapped
    if swapped == 2 || swapped == 3 { throw .bigEndian(path: cursor.path) }
    throw .unsupportedVersion(path: cursor.path, version: version)
  }

  private static func alignment(
    _ metadata: [String: GGUFValue], path: String
  ) throws(GGUFError) -> Int {
    guard let value = metadata["general.alignment"] else { return 32 }
    let alignment = value.count ?? 0
    guard alignment >= 8, alignment <= 65536, alignment.nonzeroBitCount == 1 else {
      throw .invalidAlignment(path: path, alignment: UInt64(alignment))
    }
    return alignment
  }

  private static func readDescriptions(
    _ cursor: inout GGUFCursor, count: UInt64
  ) throws(GGUFError) -> [Description] {
    var descriptions: [Description] = []
    var names = Set<String>()
    for number in 0..<count {
      let name = try cursor.string("the name of tensor \(number)")
      guard names.insert(name).inserted else {
        throw .duplicateTensor(path: cursor.path, tensor: name)
      }
      let rank = try cursor.integer(UInt32.self, "the rank of \(name)")
      guard rank >= 1, rank <= 4 else {
        throw .invalidShape(path: cursor.path, tensor: name, shape: [UInt64(rank)])
      }
      var shape: [UInt64] = []
      for _ in 0..<rank { shape.append(try cursor.integer(UInt64.self, "the shape of \(name)")) }
      let type = try cursor.integer(UInt32.self, "the type of \(name)")
      let offset = try cursor.integer(UInt64.self, "the offset of \(name)")
      descriptions.append(
        Description(name: name, shape: shape.reversed(), type: type, offset: offset))
    }
    return descriptions
  }

  private static func place(
    _ descriptions: [Description], in data: ByteRegion, alignment: Int, path: String
  ) throws(GGUFError) -> [GGUFTensor] {
    var tensors: [GGUFTensor] = []
    var ranges: [(range: Range<Int>, name: String)] = []
    for item in descriptions {
      guard let type = BlockType(rawValue: item.type) else {
        throw .unsupportedTensorType(
          path: path, tensor: item.name, type: BlockType.name(of: item.type))
      }
      let shape = item.shape.compactMap { Int(exactly: $0) }
      var elements = 1
      var overflow = shape.count != item.shape.count || shape.contains(0)
      for dimension in shape where !overflow {
        (elements, overflow) = elements.multipliedReportingOverflow(by: dimension)
      }
      guard !overflow, elements < 1 << 48, let columns = shape.last else {
        throw .invalidShape(path: path, tensor: item.name, shape: item.shape)
      }
      guard columns % type.elementsPerBlock == 0 else {
        throw .rowNotWholeBlocks(
          path: path, tensor: item.name, columns: columns, blockSize: type.elementsPerBlock)
      }
      guard item.offset % UInt64(alignment) == 0 else {
        throw .misalignedTensor(
          path: path, tensor: item.name, offset: item.offset, alignment: alignment)
      }
      let byteCount = elements / type.elementsPerBlock * type.bytesPerBlock
      guard item.offset <= UInt64(data.byteCount),
        byteCount <= data.byteCount - Int(item.offset)
      else {
        throw .tensorOutsideFile(
          path: path, tensor: item.name, offset: item.offset, byteCount: byteCount,
          available: data.byteCount)
      }
      let range = Int(item.offset)..<(Int(item.offset) + byteCount)
      ranges.append((range, item.name))
      tensors.append(
        GGUFTensor(name: item.name, type: type, shape: shape, bytes: data[range]))
    }
    ranges.sort { $0.range.lowerBound < $1.range.lowerBound }
    for (first, second) in zip(ranges, ranges.dropFirst())
    where second.range.lowerBound < first.range.upperBound {
      throw .overlappingTensors(path: path, first: first.name, second: second.name)
    }
    return tensors
  }
}
