/// What happens to transparency.
package enum TransparencyRule: String, Sendable, CaseIterable {
  /// Pixels are blended over white, as vLLM's image loader does.
  case overWhite = "over-white"
  /// Transparency is left out and the hidden colours show, as PIL's `convert("RGB")` does.
  case drop
}

/// Bytes of an image file to pixels.
///
/// The result equals that of the Python Imaging Library: `exif_transpose`, then
/// `convert("RGB")`, with transparent images blended over white first. Limits are checked on the
/// header, before memory for pixels is taken.
package struct ImageDecoder: Sendable {
  /// What an image may cost.
  package var limits: ImageLimits
  /// What happens to transparency.
  package var transparency: TransparencyRule

  /// A decoder with the given limits.
  package init(
    limits: ImageLimits = ImageLimits(), transparency: TransparencyRule = .overWhite
  ) {
    self.limits = limits
    self.transparency = transparency
  }

  /// The format and size of an image after its orientation was applied, from its header alone.
  package func measure(
    _ bytes: [UInt8]
  ) throws(ImageError) -> (format: ImageFormat, size: ImageSize) {
    let header = try header(of: bytes)
    return (header.format, header.orientation.applied(to: header.size))
  }

  /// The pixels of an image, upright.
  package func decode(_ bytes: [UInt8]) throws(ImageError) -> RGBImage {
    let header = try header(of: bytes)
    let pixels: [UInt8]
    if header.format == .bmp {
      pixels = try BitmapReader(bytes, limits: limits).pixels(transparency)
    } else {
      pixels = try ImageCodec.decode(
        bytes, header.format, header.size, transparency, limit: limits.duration)
    }
    let image = RGBImage(size: header.size, bytes: pixels)
    return header.orientation == .upright
      ? image : PixelKernels.turned(image, header.orientation)
  }

  private func header(
    of bytes: [UInt8]
  ) throws(ImageError) -> (format: ImageFormat, size: ImageSize, orientation: ImageOrientation) {
    if bytes.isEmpty { throw .empty }
    guard bytes.count <= limits.byteCount else {
      throw .tooManyBytes(count: bytes.count, limit: limits.byteCount)
    }
    guard let format = ImageFormat(sniffing: bytes) else {
      throw .unknownFormat(found: ImageFormat.describe(bytes))
    }
    let size =
      format == .bmp
      ? try BitmapReader(bytes, limits: limits).size : try ImageCodec.size(of: bytes, format)
    guard size.width > 0, size.height > 0 else {
      throw .damaged(format: format, reason: "its size is \(size)")
    }
    guard size.longSide <= limits.sideLength else {
      throw .sideTooLong(size: size, limit: limits.sideLength)
    }
    guard size.pixelCount <= limits.pixelCount else {
      throw .tooManyPixels(size: size, limit: limits.pixelCount)
    }
    return (format, size, ImageOrientation(of: bytes, format))
  }
}
