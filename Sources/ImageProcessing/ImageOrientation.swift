/// How a stored image must be turned to be upright: EXIF's tag 274, values 1 to 8.
enum ImageOrientation: Int, Sendable {
  case upright = 1
  case mirrored, halfTurned, flipped, transposed, quarterTurned, transversed, turnedBack

  /// The orientation that a file asks for; a missing or impossible one is upright.
  ///
  /// EXIF counts first, and where its tag is missing the one that XMP repeats.
  init(of bytes: [UInt8], _ format: ImageFormat) {
    let blocks =
      switch format {
      case .jpeg: Self.blocksOfJPEG(bytes)
      case .png: Self.blocksOfPNG(bytes)
      case .webp: Self.blocksOfWebP(bytes)
      case .gif, .bmp: Blocks()
      }
    let value = blocks.exif.flatMap(Self.tag(inEXIF:)) ?? blocks.xmp.flatMap(Self.tag(inXMP:))
    self = value.flatMap { Self(rawValue: $0) } ?? .upright
  }

  /// What a file says about itself.
  private struct Blocks {
    var exif: ArraySlice<UInt8>?
    var xmp: ArraySlice<UInt8>?
  }

  /// The size after turning.
  func applied(to size: ImageSize) -> ImageSize {
    rawValue >= 5 ? ImageSize(width: size.height, height: size.width) : size
  }

  /// Reads the tag in the first directory of an EXIF block: a TIFF header of either byte order,
  /// perhaps behind the letters "Exif".
  private static func tag(inEXIF exif: ArraySlice<UInt8>) -> Int? {
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
      return type == 3 || type == 4 ? number(entry + 8, type == 4 ? 4 : 2) : nil
    }
    return nil
  }

  /// The digit behind `tiff:Orientation="` or `tiff:Orientation>`.
  private static func tag(inXMP xmp: ArraySlice<UInt8>) -> Int? {
    let name = Array("tiff:Orientation".utf8)
    var index = xmp.startIndex
    while let start = xmp[index...].firstIndex(of: name[0]) {
      index = start + 1
      guard xmp[start...].starts(with: name) else { continue }
      let rest = xmp[(start + name.count)...]
      let digit =
        rest.starts(with: Array("=\"".utf8))
        ? rest.dropFirst(2).first
        : rest.starts(with: Array(">".utf8)) ? rest.dropFirst(1).first : nil
      if let digit, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) {
        return Int(digit - UInt8(ascii: "0"))
      }
    }
    return nil
  }

  // MARK: Where each format keeps it

  private static func blocksOfJPEG(_ bytes: [UInt8]) -> Blocks {
    var blocks = Blocks()
    let reader = ByteReader(bytes[...])
    var offset = 2
    while let mark = reader.integer(at: offset, byteCount: 1), mark == 0xFF {
      guard let kind = reader.integer(at: offset + 1, byteCount: 1) else { break }
      if kind == 0xFF {
        offset += 1  // a fill byte
        continue
      }
      // The image begins, or ends: no application segments behind that.
      if kind == 0xDA || kind == 0xD9 { break }
      if kind == 0x01 || (0xD0...0xD8).contains(kind) {
        offset += 2
        continue
      }
      guard let length = reader.integer(at: offset + 2, byteCount: 2), length >= 2 else { break }
      if kind == 0xE1, let segment = reader.bytes(at: offset + 4, count: length - 2) {
        if segment.starts(with: Array("Exif".utf8) + [0, 0]) {
          blocks.exif = blocks.exif ?? segment
        } else if segment.starts(with: Array("http://ns.adobe.com/xap/1.0/".utf8) + [0]) {
          blocks.xmp = segment
        }
      }
      offset += 2 + length
    }
    return blocks
  }

  private static func blocksOfPNG(_ bytes: [UInt8]) -> Blocks {
    var blocks = Blocks()
    let reader = ByteReader(bytes[...])
    let keyword = Array("XML:com.adobe.xmp".utf8) + [0, 0]
    var offset = 8
    while let length = reader.integer(at: offset, byteCount: 4),
      let name = reader.bytes(at: offset + 4, count: 4)
    {
      let data = reader.bytes(at: offset + 8, count: length)
      if name.elementsEqual("eXIf".utf8) { blocks.exif = data }
      // Text that is compressed is not read.
      if name.elementsEqual("iTXt".utf8), let data, data.starts(with: keyword) {
        blocks.xmp = data
      }
      offset += 12 + length
    }
    return blocks
  }

  private static func blocksOfWebP(_ bytes: [UInt8]) -> Blocks {
    var blocks = Blocks()
    let reader = ByteReader(bytes[...])
    var offset = 12
    while let name = reader.bytes(at: offset, count: 4),
      let length = reader.integer(at: offset + 4, byteCount: 4, isLittleEndian: true)
    {
      let data = reader.bytes(at: offset + 8, count: length)
      if name.elementsEqual("EXIF".utf8) { blocks.exif = blocks.exif ?? data }
      if name.elementsEqual("XMP ".utf8) { blocks.xmp = blocks.xmp ?? data }
      offset += 8 + length + length % 2
    }
    return blocks
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
