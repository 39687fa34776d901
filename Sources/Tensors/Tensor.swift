/// A named tensor of a checkpoint: a typed, shaped view of bytes in a file mapping.
package struct Tensor: Sendable {
  /// The name in the checkpoint.
  package let name: String
  /// The element type.
  package let elementType: ElementType
  /// Row-major dimensions, outermost first; empty for a scalar.
  package let shape: [Int]
  /// Exactly `elementCount × elementType.byteWidth` bytes.
  package let bytes: ByteRegion

  /// A view; traps when the byte count does not fit the shape.
  package init(name: String, elementType: ElementType, shape: [Int], bytes: ByteRegion) {
    precondition(
      shape.reduce(1, *) * elementType.byteWidth == bytes.byteCount,
      "\(name): \(bytes.byteCount) bytes do not fit \(elementType.rawValue) \(shape)")
    self.name = name
    self.elementType = elementType
    self.shape = shape
    self.bytes = bytes
  }

  /// Number of elements.
  package var elementCount: Int { shape.reduce(1, *) }

  /// The `index`-th slice along the outermost dimension, sharing the bytes.
  package func slice(_ index: Int) -> Tensor {
    precondition(!shape.isEmpty && index >= 0 && index < shape[0], "no slice \(index) of \(shape)")
    let byteCount = bytes.byteCount / shape[0]
    return Tensor(
      name: "\(name)[\(index)]", elementType: elementType, shape: Array(shape.dropFirst()),
      bytes: bytes[index * byteCount..<(index + 1) * byteCount])
  }

  /// The elements widened to Float32; nil for types that are not floating point.
  package func floats() -> [Float]? {
    let count = elementCount
    return switch elementType {
    case .float32: (0..<count).map { bytes.load(Float.self, at: 4 * $0) }
    case .bfloat16:
      (0..<count).map { Float(bitPattern: UInt32(bytes.load(UInt16.self, at: 2 * $0)) << 16) }
    case .float16: (0..<count).map { Float(bytes.load(Float16.self, at: 2 * $0)) }
    case .float64: (0..<count).map { Float(bytes.load(Double.self, at: 8 * $0)) }
    case .float8E4M3:
      (0..<count).map { float(e4m3: bytes.load(UInt8.self, at: $0)) }
    default: nil
    }
  }
}

extension Tensor {
  /// The elements as Float32 bytes: in place when they are, else widened into memory of their own.
  package func float32Bytes() -> ByteRegion? {
    if elementType == .float32 { return bytes }
    guard let values = floats() else { return nil }
    var copy: [UInt8] = []
    copy.reserveCapacity(4 * values.count)
    for value in values {
      for shift in stride(from: UInt32(0), to: 32, by: 8) {
        copy.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
      }
    }
    return ByteRegion(copying: copy)
  }
}

/// The value of an E4M3 code (the "fn" variant: no infinities, S.1111.111 is NaN, largest 448).
package func float(e4m3 code: UInt8) -> Float {
  let exponent = Int(code >> 3 & 15)
  let mantissa = Float(code & 7)
  if code & 0x7F == 0x7F { return .nan }
  let magnitude =
    exponent == 0
    ? mantissa * 0x1p-9
    : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
  return code & 0x80 == 0 ? magnitude : -magnitude
}

/// The nearest BF16 bit pattern, ties to even; NaN stays NaN.
package func bfloat16Bits(_ value: Float) -> UInt16 {
  let bits = value.bitPattern
  if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
  return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
}
