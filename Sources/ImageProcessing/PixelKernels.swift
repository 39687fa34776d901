import CImageCodecs
import Dispatch
import ModelConfiguration

/// The arithmetic on pixels, in C. Safe: sizes are checked here, and each part of the work writes
/// rows of its own.
@safe
enum PixelKernels {
  /// Bytes of red, green and blue to normalised values: three tables of 256.
  static func normalization(mean: [Float], deviation: [Float]) -> [Float] {
    (0..<3).flatMap { channel in
      (0..<256).map { (Float($0) / 255 - mean[channel]) / deviation[channel] }
    }
  }

  /// Resizes an image that is followed by black up to `canvas`: two passes with rounding to eight
  /// bits after each, as PIL's `resize(…, BILINEAR)`.
  static func resized(
    _ image: RGBImage, on canvas: ImageSize, to size: ImageSize, order: ResizePassOrder,
    threads: Int
  ) -> RGBImage {
    let result: RGBImage
    if order.beginsVertically(from: canvas, to: size) {
      let high = resizedDown(image, canvas.height, to: size.height, threads)
      result = resizedAcross(high, canvas.width, to: size.width, threads)
    } else {
      let wide = resizedAcross(image, canvas.width, to: size.width, threads)
      result = resizedDown(wide, canvas.height, to: size.height, threads)
    }
    return result.size == size ? result : padded(result, to: size)
  }

  private static func resizedAcross(
    _ image: RGBImage, _ canvasWidth: Int, to width: Int, _ threads: Int
  ) -> RGBImage {
    if canvasWidth == width { return image }
    let table = ResamplingTable<Int32>(eightBit: canvasWidth, to: width)
    let size = ImageSize(width: width, height: image.size.height)
    let pixels = unsafe filled(3 * size.pixelCount) { target in
      unsafe image.bytes.withUnsafeBufferPointer { source in
        inParallel(size.height, threads) { part in
          unsafe cic_resample_horizontal(
            source.baseAddress, Int32(image.size.width), target, Int32(width), table.first,
            table.count, table.weights, Int32(table.stride), Int32(part.lowerBound),
            Int32(part.upperBound))
        }
      }
    }
    return RGBImage(size: size, bytes: pixels)
  }

  private static func resizedDown(
    _ image: RGBImage, _ canvasHeight: Int, to height: Int, _ threads: Int
  ) -> RGBImage {
    if canvasHeight == height { return image }
    let table = ResamplingTable<Int32>(eightBit: canvasHeight, to: height)
    let size = ImageSize(width: image.size.width, height: height)
    let pixels = unsafe filled(3 * size.pixelCount) { target in
      unsafe image.bytes.withUnsafeBufferPointer { source in
        inParallel(height, threads) { part in
          unsafe cic_resample_vertical(
            source.baseAddress, Int32(size.width), Int32(image.size.height), target, table.first,
            table.count, table.weights, Int32(table.stride), Int32(part.lowerBound),
            Int32(part.upperBound))
        }
      }
    }
    return RGBImage(size: size, bytes: pixels)
  }

  /// The image at the upper left of a black one.
  static func padded(_ image: RGBImage, to size: ImageSize) -> RGBImage {
    var pixels: [UInt8] = []
    pixels.reserveCapacity(3 * size.pixelCount)
    let black = repeatElement(UInt8(0), count: 3 * (size.width - image.size.width))
    for y in 0..<image.size.height {
      let start = 3 * y * image.size.width
      pixels += image.bytes[start..<start + 3 * image.size.width]
      pixels += black
    }
    pixels += repeatElement(0, count: 3 * size.pixelCount - pixels.count)
    return RGBImage(size: size, bytes: pixels)
  }

  /// The whole image through `table`, then resized to a square in single precision, as torch's
  /// antialiased bilinear interpolation: three planes of side * side.
  static func normalized(
    _ image: RGBImage, side: Int, table: [Float], threads: Int
  ) -> [Float] {
    precondition(table.count == 768)
    if image.size == ImageSize(width: side, height: side) {
      return unsafe filled(3 * side * side) { target in
        unsafe cic_normalize_window(
          image.bytes, Int32(side), Int32(side), 0, 0, Int32(side), table, target)
      }
    }
    let (width, height) = (image.size.width, image.size.height)
    let across = ResamplingTable<Float>(single: width, to: side)
    let down = ResamplingTable<Float>(single: height, to: side)
    let half: [Float] = unsafe filled(3 * side * height) { target in
      unsafe image.bytes.withUnsafeBufferPointer { source in
        inParallel(height, threads) { part in
          unsafe cic_resample_normalized_horizontal(
            source.baseAddress, Int32(width), table, target, Int32(side), Int32(height),
            across.first, across.count, across.weights, Int32(across.stride),
            Int32(part.lowerBound), Int32(part.upperBound))
        }
      }
    }
    return unsafe filled(3 * side * side) { target in
      unsafe half.withUnsafeBufferPointer { source in
        inParallel(side, threads) { part in
          unsafe cic_resample_normalized_vertical(
            source.baseAddress, Int32(side), Int32(height), target, Int32(side), down.first,
            down.count, down.weights, Int32(down.stride), Int32(part.lowerBound),
            Int32(part.upperBound))
        }
      }
    }
  }

  /// A window of the image; black where it hangs over the edge.
  static func window(_ image: RGBImage, _ box: CropBox) -> RGBImage {
    var pixels = [UInt8](repeating: 0, count: 3 * box.width * box.height)
    let columns = min(box.width, image.size.width - box.x)
    for y in 0..<min(box.height, image.size.height - box.y) {
      let source = 3 * ((box.y + y) * image.size.width + box.x)
      let target = 3 * y * box.width
      pixels.replaceSubrange(
        target..<target + 3 * columns, with: image.bytes[source..<source + 3 * columns])
    }
    return RGBImage(size: ImageSize(width: box.width, height: box.height), bytes: pixels)
  }

  /// The image turned upright.
  static func turned(_ image: RGBImage, _ orientation: ImageOrientation) -> RGBImage {
    let pixels = unsafe filled(image.bytes.count) { target in
      unsafe cic_orient(
        image.bytes, Int32(image.size.width), Int32(image.size.height),
        Int32(orientation.rawValue), target)
    }
    return RGBImage(size: orientation.applied(to: image.size), bytes: pixels)
  }

  /// An array that `body` fills.
  private static func filled<Element>(
    _ count: Int, _ body: (UnsafeMutablePointer<Element>) -> Void
  ) -> [Element] {
    unsafe [Element](unsafeUninitializedCapacity: count) { buffer, filled in
      if let start = buffer.baseAddress { unsafe body(start) }
      filled = count
    }
  }

  /// Runs `body` on parts of 0..<count; which part runs where changes nothing.
  private static func inParallel(
    _ count: Int, _ threads: Int, _ body: (Range<Int>) -> Void
  ) {
    let parts = max(1, min(threads, count / 16))
    if parts == 1 { return body(0..<count) }
    withoutActuallyEscaping(body) { body in
      // Shared by threads that this call outlives; the parts are disjoint.
      nonisolated(unsafe) let body = body
      DispatchQueue.concurrentPerform(iterations: parts) { part in
        unsafe body(count * part / parts..<count * (part + 1) / parts)
      }
    }
  }
}

extension ResizePassOrder {
  /// Whether the vertical pass comes first. It may only where the height shrinks.
  func beginsVertically(from old: ImageSize, to new: ImageSize) -> Bool {
    self == .cheaperFirst && new.height < old.height
      && old.height - new.height > 2 * (old.width - new.width)
  }
}
