import CImageCodecs

/// The decoders of the system's libraries. Safe: the C functions keep no pointer, write only into
/// the memory given to them, and their errors never unwind through Swift.
@safe
enum ImageCodec {
  private typealias Measure = (
    UnsafeMutablePointer<cic_source>, UnsafeMutablePointer<cic_failure>
  ) -> Int32
  private typealias Decode = (
    UnsafePointer<cic_source>, UnsafeMutablePointer<UInt8>, UnsafeMutablePointer<cic_failure>
  ) -> Int32

  /// The size in the header, before any orientation.
  static func size(of bytes: [UInt8], _ format: ImageFormat) throws(ImageError) -> ImageSize {
    let measure: Measure =
      switch format {
      case .jpeg: unsafe cic_jpeg_size
      case .png: unsafe cic_png_size
      case .webp: unsafe cic_webp_size
      case .gif: unsafe cic_gif_size
      case .bmp: preconditionFailure("bitmaps are read in Swift")
      }
    var failure = cic_failure()
    var size = ImageSize(width: 0, height: 0)
    let status = unsafe bytes.withUnsafeBufferPointer { buffer -> Int in
      var source = unsafe cic_source()
      unsafe source.bytes = buffer.baseAddress
      unsafe source.count = buffer.count
      let status = unsafe Int(measure(&source, &failure))
      size = unsafe ImageSize(width: Int(source.width), height: Int(source.height))
      return status
    }
    if status != CIC_OK { throw error(failure, format, size, .zero) }
    return size
  }

  /// The pixels, before any orientation: 3 * width * height bytes.
  static func decode(
    _ bytes: [UInt8], _ format: ImageFormat, _ size: ImageSize, _ transparency: TransparencyRule,
    limit: Duration
  ) throws(ImageError) -> [UInt8] {
    let decode: Decode =
      switch format {
      case .jpeg: unsafe cic_jpeg_decode
      case .png: unsafe cic_png_decode
      case .webp: unsafe cic_webp_decode
      case .gif: unsafe cic_gif_decode
      case .bmp: preconditionFailure("bitmaps are read in Swift")
      }
    var failure = cic_failure()
    var status = CIC_OK
    let count = size.pixelCount * 3
    let pixels = unsafe [UInt8](unsafeUninitializedCapacity: count) { target, filled in
      guard let start = target.baseAddress else { return }
      status = unsafe bytes.withUnsafeBufferPointer { buffer -> Int in
        var source = unsafe cic_source()
        unsafe source.bytes = buffer.baseAddress
        unsafe source.count = buffer.count
        unsafe source.width = Int32(size.width)
        unsafe source.height = Int32(size.height)
        unsafe source.drops_alpha = transparency == .drop ? 1 : 0
        unsafe source.deadline = cic_now() + nanoseconds(limit)
        return unsafe Int(decode(&source, start, &failure))
      }
      filled = status == CIC_OK ? count : 0
    }
    if status != CIC_OK { throw error(failure, format, size, limit) }
    return pixels
  }

  private static func nanoseconds(_ limit: Duration) -> Int64 {
    let parts = limit.components
    return min(parts.seconds, 1 << 30) * 1_000_000_000 + parts.attoseconds / 1_000_000_000
  }

  private static func error(
    _ failure: cic_failure, _ format: ImageFormat, _ size: ImageSize, _ limit: Duration
  ) -> ImageError {
    let reason = unsafe withUnsafeBytes(of: failure.reason) { buffer in
      unsafe String(decoding: buffer.prefix { $0 != 0 }, as: UTF8.self)
    }
    switch Int(failure.status) {
    case CIC_TRUNCATED: return .truncated(format: format)
    case CIC_UNSUPPORTED: return .unsupported(format: format, reason: reason)
    case CIC_MEMORY: return .outOfMemory(format: format, size: size)
    case CIC_TOO_SLOW: return .tooSlow(format: format, limit: limit)
    default: return .damaged(format: format, reason: reason)
    }
  }
}
