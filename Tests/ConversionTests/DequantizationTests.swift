import Conversion
import Foundation
import TestSupport
import Testing

@Suite struct DequantizationTests {
  @Test("every block type decodes to the values of the gguf package, to the last bit")
  func matchesReference() throws {
    let file = try GGUFFile(path: Fixtures.path("conversion/blocks.gguf"))
    let bytes = try Fixtures.bytes("conversion/blocks.f32")
    let expected = stride(from: 0, to: bytes.count, by: 4).map { i in
      UInt32(bytes[i]) | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2]) << 16
        | UInt32(bytes[i + 3]) << 24
    }
    #expect(Set(file.tensors.map(\.type)) == Set(BlockType.allCases))
    var start = 0
    for tensor in file.tensors {
      let values = SourceTensor(tensor).all()
      #expect(values.count == 1024)
      let found = values.map(\.bitPattern)
      #expect(found == Array(expected[start..<start + 1024]), "\(tensor.type.name)")
      start += 1024
    }
    #expect(start == expected.count)
  }

  @Test("rows decode as the whole does")
  func decodesRows() throws {
    let file = try GGUFFile(path: Fixtures.path("conversion/blocks.gguf"))
    for tensor in file.tensors {
      let source = SourceTensor(tensor)
      #expect(source.rows(0..<1) + source.rows(1..<2) == source.all(), "\(tensor.type.name)")
    }
  }
}
