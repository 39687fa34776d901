import Tensors

/// Reads a GGUF header from front to back; every step is checked against the end of the file.
struct GGUFCursor {
  let path: String
  let bytes: ByteRegion
  var offset = 0
  private static let deepestArray = 4

  init(path: String, bytes: ByteRegion) {
    self.path = path
    self.bytes = bytes
  }

  private func require(_ count: UInt64, for item: String) throws(GGUFError) {
    let available = bytes.byteCount - offset
    guard count <= UInt64(available) else {
      throw .truncated(
        path: path, item: item, offset: offset, needed: count, available: available)
    }
  }

  mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ item: String
  ) throws(GGUFError) -> T {
    try require(UInt64(MemoryLayout<T>.size), for: item)
    defer { offset += MemoryLayout<T>.size }
    return T(littleEndian: bytes.load(type, at: offset))
  }

  mutating func string(_ item: String) throws(GGUFError) -> String {
    let length = try integer(UInt64.self, "the length of \(item)")
    try require(length, for: item)
    let start = offset
    offset += Int(length)
    let text = bytes[start..<offset].bytes()
    guard let value = String(validating: text, as: UTF8.self) else {
      throw .invalidText(path: path, item: item, offset: start)
    }
    return value
  }

  /// The value of `key`, its type number first.
  mutating func value(_ key: String) throws(GGUFError) -> GGUFValue {
    let type = try integer(UInt32.self, "the type of \(key)")
    return try value(type, key, depth: 0)
  }

  private mutating func value(
    _ type: UInt32, _ key: String, depth: Int
  ) throws(GGUFError) -> GGUFValue {
    switch type {
    case 0: .unsigned(UInt64(try integer(UInt8.self, key)))
    case 1: .signed(Int64(try integer(Int8.self, key)))
    case 2: .unsigned(UInt64(try integer(UInt16.self, key)))
    case 3: .signed(Int64(try integer(Int16.self, key)))
    case 4: .unsigned(UInt64(try integer(UInt32.self, key)))
    case 5: .signed(Int64(try integer(Int32.self, key)))
    case 6: .float(Double(Float(bitPattern: try integer(UInt32.self, key))))
    case 7: .bool(try integer(UInt8.self, key) != 0)
    case 8: .string(try string(key))
    case 9: try array(key, depth: depth)
    case 10: .unsigned(try integer(UInt64.self, key))
    case 11: .signed(try integer(Int64.self, key))
    case 12: .float(Double(bitPattern: try integer(UInt64.self, key)))
    default:
      throw .unknownValueType(path: path, key: key, offset: offset - 4, type: type)
    }
  }

  private mutating func array(_ key: String, depth: Int) throws(GGUFError) -> GGUFValue {
    guard depth < Self.deepestArray else {
      throw .nestedTooDeep(path: path, key: key, offset: offset)
    }
    let type = try integer(UInt32.self, "the element type of \(key)")
    let count = try integer(UInt64.self, "the element count of \(key)")
    // Every element takes at least as many bytes as its fixed part, so that an absurd count is
    // refused before anything is allocated.
    let smallest: UInt64
    switch type {
    case 0, 1, 7: smallest = 1
    case 2, 3: smallest = 2
    case 4, 5, 6: smallest = 4
    case 8, 10, 11, 12: smallest = 8
    case 9: smallest = 12
    default: throw .unknownValueType(path: path, key: key, offset: offset - 12, type: type)
    }
    let (least, overflow) = count.multipliedReportingOverflow(by: smallest)
    try require(overflow ? .max : least, for: "the \(count) elements of \(key)")
    if type == 8 {
      var strings: [String] = []
      strings.reserveCapacity(Int(count))
      for _ in 0..<count { strings.append(try string(key)) }
      return .strings(strings)
    }
    var values: [GGUFValue] = []
    values.reserveCapacity(Int(count))
    for _ in 0..<count { values.append(try value(type, key, depth: depth + 1)) }
    return .array(values)
  }
}
