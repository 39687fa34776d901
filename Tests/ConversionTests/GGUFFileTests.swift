import Conversion
import Foundation
import Tensors
import TestSupport
import Testing

private let path = "model.gguf"

private func open(_ bytes: [UInt8]) throws(GGUFError) -> GGUFFile {
  try GGUFFile(path: path, bytes: ByteRegion(copying: bytes))
}

/// Builds the bytes of a GGUF file, well formed or not.
private struct Builder {
  var bytes = Array("GGUF".utf8)
  mutating func number<T: FixedWidthInteger>(_ value: T) {
    for i in 0..<T.bitWidth / 8 { bytes.append(UInt8(truncatingIfNeeded: value >> T(8 * i))) }
  }
  mutating func text(_ value: String) {
    number(UInt64(value.utf8.count))
    bytes += Array(value.utf8)
  }
  mutating func key(_ name: String, string: String) {
    text(name)
    number(UInt32(8))
    text(string)
  }
  mutating func tensor(_ name: String, _ shape: [UInt64], type: UInt32, offset: UInt64) {
    text(name)
    number(UInt32(shape.count))
    for dimension in shape { number(dimension) }
    number(type)
    number(offset)
  }
  mutating func data(_ count: Int) {
    while bytes.count % 32 != 0 { bytes.append(0) }
    bytes += [UInt8](repeating: 1, count: count)
  }

  /// A header for so many tensors and keys.
  init(version: UInt32 = 3, tensors: UInt64 = 0, keys: UInt64 = 0) {
    number(version)
    number(tensors)
    number(keys)
  }
}

@Suite struct GGUFFileTests {
  @Test("metadata and tensors read as written")
  func readsFile() throws {
    let file = try GGUFFile(path: Fixtures.path("conversion/gqa.gguf"))
    #expect(file.version == 3)
    #expect(try file.string("general.architecture") == "llama")
    #expect(try file.count("llama.attention.head_count_kv") == 2)
    #expect(try file.number("llama.rope.freq_base") == 100_000)
    #expect(try file.strings("tokenizer.ggml.tokens")?.count == 269)
    #expect(try file.count("llama.absent") == nil)
    #expect(file.tensor("token_embd.weight")?.shape == [300, 64])
    #expect(file.tensor("token_embd.weight")?.type == .q8_0)
    #expect(
      throws: GGUFError.wrongValue(
        path: file.path, key: "general.architecture", expected: "a number", found: "\"llama\"")
    ) { try file.number("general.architecture") }
  }

  @Test("version 2 reads as version 3 does")
  func readsVersion2() throws {
    var bytes = try Fixtures.bytes("conversion/blocks.gguf")
    bytes[4] = 2
    #expect(try open(bytes).tensors.count == BlockType.allCases.count)
  }

  @Test("a file cut anywhere is refused, never trapped on")
  func truncated() throws {
    let bytes = try Fixtures.bytes("conversion/blocks.gguf")
    // The last tensor ends less than one alignment before the end of the file.
    for length in 0...bytes.count - 32 {
      #expect(throws: GGUFError.self) { _ = try open(Array(bytes[..<length])) }
    }
  }

  @Test("a file with a changed byte reads or is refused, never trapped on")
  func corrupted() throws {
    let bytes = try Fixtures.bytes("conversion/blocks.gguf")
    for position in 0..<1200 {
      for value: UInt8 in [0, 1, 0x7F, 0x80, 0xFF] {
        var changed = bytes
        changed[position] = value
        do throws(GGUFError) { _ = try open(changed) } catch { _ = error.description }
      }
    }
  }

  @Test("what is not a little-endian GGUF of version 2 or 3 is named")
  func wrongBeginning() throws {
    #expect(throws: GGUFError.notGGUF(path: path, firstBytes: [0x50, 0x4B, 3, 4])) {
      try open([0x50, 0x4B, 3, 4, 0, 0])
    }
    #expect(throws: GGUFError.unsupportedVersion(path: path, version: 1)) {
      try open(Builder(version: 1).bytes)
    }
    #expect(throws: GGUFError.bigEndian(path: path)) {
      try open(Builder(version: UInt32(3).byteSwapped).bytes)
    }
    #expect(throws: GGUFError.file(.notFound(path: "absent.gguf"))) {
      try GGUFFile(path: "absent.gguf")
    }
  }

  @Test("absurd counts are refused before anything is allocated")
  func absurdCounts() throws {
    var text = Builder(keys: 1)
    text.number(UInt64.max)
    #expect(
      throws: GGUFError.truncated(
        path: path, item: "the name of key 0", offset: 32, needed: .max, available: 0)
    ) { try open(text.bytes) }
    var array = Builder(keys: 1)
    array.text("a")
    array.number(UInt32(9))
    array.number(UInt32(4))
    array.number(UInt64(1) << 62)
    #expect(throws: GGUFError.self) { try open(array.bytes) }
    #expect(throws: GGUFError.self) { try open(Builder(tensors: .max).bytes) }
  }

  @Test("tensors that lie wrongly are refused by name")
  func misplacedTensors() throws {
    func file(_ shape: [UInt64], type: UInt32 = 0, offset: UInt64 = 0) throws -> GGUFFile {
      var builder = Builder(tensors: 1)
      builder.tensor("t", shape, type: type, offset: offset)
      builder.data(64)
      return try open(builder.bytes)
    }
    #expect(try file([4, 4]).tensor("t")?.bytes.byteCount == 64)
    #expect(
      throws: GGUFError.tensorOutsideFile(
        path: path, tensor: "t", offset: 0, byteCount: 80, available: 64)
    ) { try file([5, 4]) }
    #expect(
      throws: GGUFError.misalignedTensor(path: path, tensor: "t", offset: 4, alignment: 32)
    ) { try file([4], offset: 4) }
    #expect(
      throws: GGUFError.rowNotWholeBlocks(path: path, tensor: "t", columns: 31, blockSize: 32)
    ) { try file([31], type: 8) }
    #expect(
      throws: GGUFError.unsupportedTensorType(path: path, tensor: "t", type: "IQ4_XS")
    ) { try file([256], type: 23) }
    #expect(throws: GGUFError.invalidShape(path: path, tensor: "t", shape: [1 << 40, 1 << 40])) {
      try file([1 << 40, 1 << 40])
    }
    #expect(throws: GGUFError.invalidShape(path: path, tensor: "t", shape: [0])) {
      try file([0])
    }
    var twice = Builder(tensors: 2)
    twice.tensor("a", [16], type: 0, offset: 0)
    twice.tensor("b", [8], type: 0, offset: 32)
    twice.data(64)
    #expect(throws: GGUFError.overlappingTensors(path: path, first: "a", second: "b")) {
      try open(twice.bytes)
    }
  }

  @Test("doubled keys, odd text and unknown types are refused by name")
  func oddMetadata() throws {
    var doubled = Builder(keys: 2)
    doubled.key("k", string: "1")
    doubled.key("k", string: "2")
    #expect(throws: GGUFError.duplicateKey(path: path, key: "k")) { try open(doubled.bytes) }
    var odd = Builder(keys: 1)
    odd.text("k")
    odd.number(UInt32(8))
    odd.number(UInt64(1))
    odd.bytes.append(0xFF)
    #expect(throws: GGUFError.invalidText(path: path, item: "k", offset: 45)) {
      try open(odd.bytes)
    }
    var unknown = Builder(keys: 1)
    unknown.text("k")
    unknown.number(UInt32(13))
    #expect(throws: GGUFError.unknownValueType(path: path, key: "k", offset: 33, type: 13)) {
      try open(unknown.bytes)
    }
    var nested = Builder(keys: 1)
    nested.text("k")
    for _ in 0..<6 {
      nested.number(UInt32(9))
      nested.number(UInt64(1))
    }
    nested.number(UInt32(0))
    nested.data(64)
    #expect(throws: GGUFError.self) { try open(nested.bytes) }
  }
}
