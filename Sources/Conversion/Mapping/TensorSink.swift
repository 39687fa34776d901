import Tensors

/// Encodes Float32 values in the checkpoint's element type and appends them to the writer.
struct TensorSink: ~Copyable {
  private var writer: SafetensorsWriter
  private let elementType: ElementType
  private let progress: (Int) -> Void

  init(
    _ writer: consuming SafetensorsWriter, elementType: ElementType,
    progress: @escaping (Int) -> Void
  ) {
    precondition(elementType == .bfloat16 || elementType == .float32)
    self.writer = writer
    self.elementType = elementType
    self.progress = progress
  }

  /// Appends values to the tensor `name`.
  mutating func append(_ values: [Float], to name: String) throws(ConversionError) {
    try append(encoded: encode(values), to: name)
  }

  /// Appends values that are already encoded.
  mutating func append(encoded bytes: [UInt8], to name: String) throws(ConversionError) {
    do throws(SafetensorsWriterError) {
      try writer.append(bytes, to: name)
    } catch {
      throw .writing(error)
    }
    progress(bytes.count)
  }

  /// The bytes of values; BF16 is rounded to nearest, ties to even.
  func encode(_ values: [Float]) -> [UInt8] {
    let width = elementType.byteWidth
    let source = values.span
    return [UInt8](capacity: width * values.count) { out in
      for i in source.indices {
        if width == 2 {
          let bits = bfloat16Bits(source[i])
          out.append(UInt8(truncatingIfNeeded: bits))
          out.append(UInt8(truncatingIfNeeded: bits >> 8))
        } else {
          let bits = source[i].bitPattern
          for shift: UInt32 in [0, 8, 16, 24] {
            out.append(UInt8(truncatingIfNeeded: bits >> shift))
          }
        }
      }
    }
  }

  /// Completes the checkpoint; returns the names of its files.
  consuming func finish() throws(ConversionError) -> [String] {
    do throws(SafetensorsWriterError) { return try writer.finish() } catch {
      throw .writing(error)
    }
  }
}
