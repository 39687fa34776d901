/// Why an image was refused or could not be read.
package enum ImageError: Error, Equatable, Sendable {
  /// There are no bytes.
  case empty
  /// The bytes are in no format that is read; `found` says what they look like.
  case unknownFormat(found: String)
  /// A variant of the format that is not read.
  case unsupported(format: ImageFormat, reason: String)
  /// The file ends before its image does.
  case truncated(format: ImageFormat)
  /// The file contradicts its format: a wrong checksum, an impossible value.
  case damaged(format: ImageFormat, reason: String)
  /// The file is larger than the limit.
  case tooManyBytes(count: Int, limit: Int)
  /// Width times height is above the limit.
  case tooManyPixels(size: ImageSize, limit: Int)
  /// A side is longer than the limit.
  case sideTooLong(size: ImageSize, limit: Int)
  /// Decoding took longer than the limit.
  case tooSlow(format: ImageFormat, limit: Duration)
  /// The memory for the pixels could not be had.
  case outOfMemory(format: ImageFormat, size: ImageSize)
  /// Shrunk to the longest side that is kept, the other side would vanish.
  case tooThin(size: ImageSize)
  /// A thin image falls into more crops than the limit.
  case tooManyCrops(size: ImageSize, count: Int, limit: Int)
}

extension ImageError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .empty:
      "the image is empty; send the bytes of a JPEG, PNG, WebP, GIF or BMP file"
    case .unknownFormat(let found):
      "this is not an image that can be read: \(found); send JPEG, PNG, WebP, GIF or BMP"
    case .unsupported(let format, let reason):
      "this kind of \(format.rawValue) is not read: \(reason); save the image as PNG"
    case .truncated(let format):
      "the \(format.rawValue) image is truncated: the data end before the last pixel; "
        + "send the whole file"
    case .damaged(let format, let reason):
      "the \(format.rawValue) image is damaged: \(reason); send an intact file"
    case .tooManyBytes(let count, let limit):
      "the image has \(count) bytes, the limit is \(limit); compress it or make it smaller"
    case .tooManyPixels(let size, let limit):
      "the image has \(size) = \(size.pixelCount) pixels, the limit is \(limit); make it smaller"
    case .sideTooLong(let size, let limit):
      "the image measures \(size) pixels, the limit for a side is \(limit); make it smaller"
    case .tooSlow(let format, let limit):
      "decoding the \(format.rawValue) image took longer than \(limit); make it smaller or save "
        + "it without progressive scans"
    case .outOfMemory(let format, let size):
      "there is no memory for the \(format.rawValue) image of \(size) pixels; make it smaller"
    case .tooThin(let size):
      "the image of \(size) pixels is too thin: shrunk to fit, its short side would vanish; "
        + "cut it into parts"
    case .tooManyCrops(let size, let count, let limit):
      "the image of \(size) pixels is so thin that it falls into \(count) crops, the limit is "
        + "\(limit); cut it into parts"
    }
  }
}
