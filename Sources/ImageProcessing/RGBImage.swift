/// Width and height in pixels.
package struct ImageSize: Sendable, Equatable, Hashable, CustomStringConvertible {
  /// Columns and rows.
  package var width: Int
  package var height: Int

  /// A size in pixels.
  package init(width: Int, height: Int) {
    self.width = width
    self.height = height
  }

  /// Width times height.
  package var pixelCount: Int { width * height }
  package var description: String { "\(width)x\(height)" }
  var longSide: Int { max(width, height) }
  var shortSide: Int { min(width, height) }
}

/// An image in memory: eight bits each of red, green and blue.
package struct RGBImage: Sendable, Equatable {
  /// Width and height in pixels.
  package let size: ImageSize
  /// Row by row from the top, three bytes a pixel, no padding: 3 * width * height bytes.
  package let bytes: [UInt8]

  /// Takes pixels; traps when their number does not fit the size.
  package init(size: ImageSize, bytes: [UInt8]) {
    precondition(size.width > 0 && size.height > 0, "an image of \(size)")
    precondition(bytes.count == size.pixelCount * 3, "\(bytes.count) bytes for \(size) pixels")
    self.size = size
    self.bytes = bytes
  }
}

/// What an image may cost; checked before memory is taken.
package struct ImageLimits: Sendable, Equatable {
  /// Bytes of the file.
  package var byteCount = 64 << 20
  /// Pixels of the decoded image; three bytes each.
  package var pixelCount = 100_000_000
  /// The longest side in pixels.
  package var sideLength = 65_535
  /// The longest decoding of one image.
  package var duration = Duration.seconds(20)
  /// Crops of one image: more would not fit the published model's context.
  package var cropCount = 780

  /// The defaults.
  package init() {}
}
