import Tensors

/// CRC32C (Castagnoli), the checksum of headers and, where a link asks for it, of payloads.
///
/// Eight bytes a step by eight tables: about a byte per nanosecond, so payloads are covered only
/// where the wire below has no better check of its own.
package enum Checksum {
  /// The checksum of bytes.
  package static func crc32c(_ bytes: [UInt8]) -> UInt32 {
    bytes.withRawSpan { crc32c($0) }
  }

  /// The checksum of bytes.
  package static func crc32c(_ bytes: RawSpan) -> UInt32 {
    var state = ~UInt32(0)
    var offset = 0
    while offset + 8 <= bytes.byteCount {
      let low = state ^ UInt32(littleEndian: bytes.integer(at: offset))
      let high = UInt32(littleEndian: bytes.integer(at: offset + 4))
      state =
        tables[0x700 + Int(low & 255)] ^ tables[0x600 + Int(low >> 8 & 255)]
        ^ tables[0x500 + Int(low >> 16 & 255)] ^ tables[0x400 + Int(low >> 24)]
        ^ tables[0x300 + Int(high & 255)] ^ tables[0x200 + Int(high >> 8 & 255)]
        ^ tables[0x100 + Int(high >> 16 & 255)] ^ tables[Int(high >> 24)]
      offset += 8
    }
    while offset < bytes.byteCount {
      let byte: UInt8 = bytes.integer(at: offset)
      state = state >> 8 ^ tables[Int((state ^ UInt32(byte)) & 255)]
      offset += 1
    }
    return ~state
  }

  /// Table k at 256·k: the effect of a byte that k more bytes follow.
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for byte in 0..<256 {
      var value = UInt32(byte)
      for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
      tables[byte] = value
    }
    for index in 256..<tables.count {
      let before = tables[index - 256]
      tables[index] = before >> 8 ^ tables[Int(before & 255)]
    }
    return tables
  }()
}
