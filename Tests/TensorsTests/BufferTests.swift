import Tensors
import Testing

@Suite struct BufferTests {
  @Test("a new buffer is zeroed and keeps what is written")
  func zeroedThenWritten() {
    var buffer = Buffer<Float>(count: 100)
    let fresh = buffer.array(0..<100)
    #expect(fresh.allSatisfy { $0 == 0 })
    buffer[7] = 3
    var span = buffer.mutableSpan
    span[8] = 4
    let read = (buffer[7], buffer.span[8])
    #expect(read == (3, 4))
  }

  @Test("a region's slice keeps its owner's bytes")
  func regionSlices() {
    let region = ByteRegion(copying: Array(0..<64))
    #expect(region[10..<20].bytes() == Array(10..<20))
    #expect(region[10..<20].load(UInt16.self, at: 1) == UInt16(11) | UInt16(12) << 8)
  }

  @Test(
    "E4M3 codes widen as the format says",
    arguments: [
      (0x00, 0), (0x01, 0x1p-9), (0x08, 0x1p-6), (0x38, 1), (0x7E, 448), (0xB8, -1),
    ] as [(UInt8, Float)])
  func e4m3(code: UInt8, value: Float) {
    #expect(float(e4m3: code) == value)
  }

  @Test("E4M3 has two NaN codes and no infinity")
  func e4m3NaN() {
    let nonFinite = (0...255).filter { !float(e4m3: UInt8($0)).isFinite }
    #expect(nonFinite == [0x7F, 0xFF])
  }

  @Test("rounding to BF16 is to nearest, ties to even")
  func bfloat16Rounding() {
    #expect(bfloat16Bits(1) == 0x3F80)
    #expect(bfloat16Bits(Float(bitPattern: 0x3F80_8000)) == 0x3F80)
    #expect(bfloat16Bits(Float(bitPattern: 0x3F81_8000)) == 0x3F82)
    #expect(bfloat16Bits(Float(bitPattern: 0x3F80_8001)) == 0x3F81)
    #expect(bfloat16Bits(.infinity) == 0x7F80)
  }
}
