/// How a stored image must be turned to be upright: EXIF's tag 274, values 1 to 8.
enum ImageOrientation: Int, Sendable {
  case upright = 1
  case mirrored, halfTurned, flipped, transposed, quarterTurned, transversed, turnedBack

  /// The orientation that a file asks for; a missing or impossible one is upright.
  init(of bytes: [UInt8], _ format: ImageFormat) {
    let exif: ArraySlice<UInt8>? =
      switch format {
      case .jpeg: Self.exifOfJPEG(bytes)
      case .png: Self.exifOfPNG(bytes)
      case .webp: Self.exifOfWebP(bytes)
      case .gif, .bmp: nil
      }
    self = exif.flatMap(Self.init(exif:)) ?? .upright
  }

  /// The size after turning.
  func applied(to size: ImageSize) -> ImageSize {
    rawValue >= 5 ? ImageSize(width: size.height, height: size.width) : size
  }

  /// Reads the tag in the first directory of an EXIF block: a TIFF header of either byte order,
  /// perhaps behind the letters "Exif".
  private init?(exif: ArraySlice<UInt8>) {
    let marked = exif.starts(with: Array("Exif".utf8) + [0, 0])
    let block = ByteReader(marked ? exif.dropFirst(6) : exif)
    guard let order = block.integer(at: 0, byteCount: 2, isLittleEndian: true) else { return nil }
    guard order == 0x4949 || order == 0x4D4D else { return nil }
    let little = order == 0x4949
    func number(_ offset: Int, _ byteCount: Int) -> Int? {
      block.integer(at: offset, byteCount: byteCount, isLittleEndian: little)
    }
    guard number(2, 2) == 42, let directory = number(4, 4), let count = number(directory, 2)
    else { return nil }
    for index in 0..<count {
      let entry = directory + 2 + 12 * index
      guard let tag = number(entry, 2) else { return nil }
      guard tag == 274 else { continue }
      // One number of type SHORT, in the first bytes of the value; some writers use LONG.
      guard let type = number(entry + 2, 2), number(entry + 4, 4) == 1 else { return nil }
      guard let value = number(entry + 8, type == 4 ? 4 : 2), type == 3 || type == 4 else {
        return nil
      }
      self.init(rawValue: value)
      return
    }
    return nil
  }

  // MARK: Where each format keeps it

  private static func exifOfJPEG(_ bytes: [UInt8]) -> ArraySlice<UInt8>? {
    let reader = ByteReader(bytes[...])
    var offset = 2
    while let mark = reader.integer(at: offset, byteCount: 1), mark == 0xFF {
      guard let kind = reader.integer(at: offset + 1, byteCount: 1) else { return nil }
      if kind == 0xFF {
        offset += 1  // a fill byte
        continue
      }
      // The image begins, or ends: no application segments behind that.
      if kind == 0xDA || kind == 0xD9 { return nil }
      if kind == 0x01 || (0xD0...0xD8).contains(kind) {
        offset += 2
        continue
      }
      guard let length = reader.integer(at: offset + 2, byteCount: 2), length >= 2 else {
        return nil
      }
      if kind == 0xE1, let segment = reader.bytes(at: offset + 4, count: length - 2),
        segment.starts(with: Array("Exif".utf8) + [0, 0])
      {
        return segment
      }
      offset += 2 + length
    }
    return nil
  }

  private static func exifOfPNG(_ bytes: [UInt8]) -> ArraySlice<UInt8>? {
    let reader = ByteReader(bytes[...])
    var offset = 8
    while let length = reader.integer(at: offset, byteCount: 4),
      let name = reader.bytes(at: offset + 4, count: 4)
    {
      if name.elementsEqual("eXIf".utf8) { return reader.bytes(at: offset + 8, count: length) }
      offset += 12 + length
    }
    return nil
  }

  private static func exifOfWebP(_ bytes: [UInt8]) -> ArraySlice<UInt8>? {
    let reader = ByteReader(bytes[...])
    var offset = 12
    while let name = reader.bytes(at: offset, count: 4),
      let length = reader.integer(at: offset + 4, byteCount: 4, isLittleEndian: true)
    {
      if name.elementsEqual("EXIF".utf8) { return reader.bytes(at: offset + 8, count: length) }
      offset += 8 + length + length % 2
    }
    return nil
  }
}

/// Checked reading of numbers and ranges from untrusted bytes.
struct ByteReader {
  private let bytes: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

  /// Number of bytes.
  var count: Int { bytes.count }

  /// An unsigned integer of up to four bytes, nil beyond the end.
  func integer(at offset: Int, byteCount: Int, isLittleEndian: Bool = false) -> Int? {
    guard let digits = self.bytes(at: offset, count: byteCount) else { return nil }
    var value = 0
    if isLittleEndian {
      for digit in digits.reversed() { value = value << 8 | Int(digit) }
    } else {
      for digit in digits { value = value << 8 | Int(digit) }
    }
    return value
  }

  /// The `count` bytes at `offset`, nil beyond the end.
  func bytes(at offset: Int, count: Int) -> ArraySlice<UInt8>? {
    guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else {
      return nil
    }
    let start = bytes.startIndex + offset
    return bytes[start..<start + count]
  }
}
