/// Reads BMP files as the Python Imaging Library does: headers of 12 to 124 bytes, 1 to 32 bits a
/// pixel, run-length coding, the usual bit fields.
struct BitmapReader {
  private typealias Colour = (red: UInt8, green: UInt8, blue: UInt8)

  private enum Layout {
    case palette(bits: Int)
    /// Run lengths over a palette; `bits` of one pixel.
    case runs(bits: Int)
    /// Two bytes a pixel: the widths of blue, green and red from the lowest bit.
    case packed(green: Int)
    /// Bytes of red, green, blue (and alpha) within a pixel of `byteCount`.
    case bytes(byteCount: Int, red: Int, green: Int, blue: Int, alpha: Int?)
  }

  /// Width and height in pixels.
  let size: ImageSize
  private let reader: ByteReader
  private let headerSize: Int
  private let bitCount: Int
  private let compression: Int
  private let isTopDown: Bool
  private let layout: Layout
  private let colours: [Colour]
  private let dataOffset: Int
  private let limit: Duration
  private let deadline: ContinuousClock.Instant

  /// Reads the headers; pixels are not looked at.
  init(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) {
    limit = limits.duration
    deadline = .now + limits.duration
    reader = ByteReader(bytes[...])
    headerSize = try Self.number(reader, 14, 4)
    let isOld = headerSize == 12
    guard [12, 40, 52, 56, 64, 108, 124].contains(headerSize) else {
      throw .unsupported(format: .bmp, reason: "its header has \(headerSize) bytes")
    }
    guard reader.count >= 14 + headerSize else { throw .truncated(format: .bmp) }
    let width = try Self.number(reader, 18, isOld ? 2 : 4)
    let height = try Self.number(reader, isOld ? 20 : 22, isOld ? 2 : 4)
    isTopDown = !isOld && height >> 24 == 0xFF
    size = ImageSize(width: width, height: isTopDown ? (1 << 32) - height : height)
    bitCount = try Self.number(reader, isOld ? 24 : 28, 2)
    compression = isOld ? 0 : try Self.number(reader, 30, 4)
    layout = try Self.layout(bitCount, compression, reader, headerSize)
    let named = isOld ? 0 : try Self.number(reader, 46, 4)
    let entrySize = isOld ? 3 : 4
    let count = named == 0 && bitCount <= 8 ? 1 << bitCount : named
    let start = try Self.number(reader, 10, 4)
    let palette = 14 + headerSize
    dataOffset =
      start == palette && bitCount <= 8
      ? start + entrySize * count
      : start != 0 ? start : palette + (bitCount <= 8 ? entrySize * count : 0)
    colours = try Self.colours(reader, palette, entrySize, bitCount <= 8 ? count : 0)
  }

  /// Three bytes a pixel, from the top.
  func pixels(_ transparency: TransparencyRule) throws(ImageError) -> [UInt8] {
    switch layout {
    case .palette(let bits): try paletted { line, x in Self.index(line, x, bits) }
    case .runs(let bits): try unpackedRuns(bits: bits)
    case .packed(let green): try converted(byteCount: 2) { Self.unpack($0, $1, green) }
    case .bytes(let byteCount, let red, let green, let blue, let alpha):
      try converted(byteCount: byteCount) { line, at in
        let colour = (line[at + red], line[at + green], line[at + blue])
        guard let alpha, transparency == .overWhite else { return colour }
        let share = line[at + alpha]
        return (
          Self.overWhite(colour.0, share), Self.overWhite(colour.1, share),
          Self.overWhite(colour.2, share)
        )
      }
    }
  }

  // MARK: Header

  private static func number(
    _ reader: ByteReader, _ offset: Int, _ byteCount: Int
  ) throws(ImageError) -> Int {
    guard let value = reader.integer(at: offset, byteCount: byteCount, isLittleEndian: true) else {
      throw .truncated(format: .bmp)
    }
    return value
  }

  private static func layout(
    _ bits: Int, _ compression: Int, _ reader: ByteReader, _ headerSize: Int
  ) throws(ImageError) -> Layout {
    switch (compression, bits) {
    case (0, 1), (0, 4), (0, 8): return .palette(bits: bits)
    case (0, 16): return .packed(green: 5)
    case (0, 24): return .bytes(byteCount: 3, red: 2, green: 1, blue: 0, alpha: nil)
    case (0, 32): return .bytes(byteCount: 4, red: 2, green: 1, blue: 0, alpha: nil)
    case (1, 8), (2, 4): return .runs(bits: bits)
    case (3, 16), (3, 24), (3, 32):
      return try fields(bits, reader, hasAlpha: headerSize >= 56)
    case (1...3, _), (0, _):
      throw .unsupported(
        format: .bmp, reason: "\(bits) bits a pixel with compression \(compression)")
    default: throw .unsupported(format: .bmp, reason: "compression \(compression)")
    }
  }

  private static func fields(
    _ bits: Int, _ reader: ByteReader, hasAlpha: Bool
  ) throws(ImageError) -> Layout {
    var masks: [Int] = []
    for index in 0..<3 { masks.append(try number(reader, 54 + 4 * index, 4)) }
    let alpha = hasAlpha ? try number(reader, 66, 4) : 0
    if bits == 16 && masks == [0xF800, 0x7E0, 0x1F] { return .packed(green: 6) }
    if bits == 16 && masks == [0x7C00, 0x3E0, 0x1F] { return .packed(green: 5) }
    let isBlank = bits == 32 && masks == [0, 0, 0] && alpha == 0
    if isBlank { return .bytes(byteCount: 4, red: 2, green: 1, blue: 0, alpha: 3) }
    let places = (masks + [alpha]).map { mask in
      (0..<bits / 8).first { mask == 0xFF << (8 * $0) }
    }
    guard bits >= 24, let red = places[0], let green = places[1], let blue = places[2],
      Set([red, green, blue]).count == 3, alpha == 0 || places[3] != nil
    else { throw .unsupported(format: .bmp, reason: "its bit fields are unusual") }
    return .bytes(byteCount: bits / 8, red: red, green: green, blue: blue, alpha: places[3])
  }

  /// The palette as red, green, blue; indices beyond it are greys.
  private static func colours(
    _ reader: ByteReader, _ start: Int, _ entrySize: Int, _ count: Int
  ) throws(ImageError) -> [Colour] {
    guard count <= 65_536 else {
      throw .damaged(format: .bmp, reason: "its palette has \(count) colours")
    }
    var colours: [Colour] = (UInt8.min...UInt8.max).map { ($0, $0, $0) }
    for index in 0..<min(count, 256) {
      guard let entry = reader.bytes(at: start + entrySize * index, count: 3) else {
        throw .truncated(format: .bmp)
      }
      let start = entry.startIndex
      colours[index] = (entry[start + 2], entry[start + 1], entry[start])
    }
    return colours
  }

  // MARK: Pixels

  /// The line of the file that holds row `y` from the top.
  private func line(_ y: Int) throws(ImageError) -> ArraySlice<UInt8> {
    let stride = ((size.width * bitCount + 31) >> 3) & ~3
    let row = isTopDown ? y : size.height - 1 - y
    // The padding behind the very last line may be missing.
    let needed = (size.width * bitCount + 7) / 8
    guard let line = reader.bytes(at: dataOffset + row * stride, count: needed) else {
      throw .truncated(format: .bmp)
    }
    return line
  }

  private func paletted(
    _ index: (_ line: ArraySlice<UInt8>, _ x: Int) -> Int
  ) throws(ImageError) -> [UInt8] {
    try converted { line, x in colours[index(line, x)] }
  }

  private static func index(_ line: ArraySlice<UInt8>, _ x: Int, _ bits: Int) -> Int {
    let perByte = 8 / bits
    let x = x - line.startIndex
    let byte = Int(line[line.startIndex + x / perByte])
    return byte >> (8 - bits * (x % perByte + 1)) & ((1 << bits) - 1)
  }

  private func converted(
    byteCount: Int = 1, _ colour: (_ line: ArraySlice<UInt8>, _ at: Int) -> Colour
  ) throws(ImageError) -> [UInt8] {
    // Before memory is taken: the lines must be there.
    _ = try line(isTopDown ? size.height - 1 : 0)
    var pixels: [UInt8] = []
    pixels.reserveCapacity(size.pixelCount * 3)
    for y in 0..<size.height {
      let line = try line(y)
      try checkTime()
      for x in 0..<size.width { append(colour(line, x * byteCount + line.startIndex), to: &pixels) }
    }
    return pixels
  }

  @inline(__always)
  private func append(_ colour: Colour, to pixels: inout [UInt8]) {
    pixels.append(colour.red)
    pixels.append(colour.green)
    pixels.append(colour.blue)
  }

  private func checkTime() throws(ImageError) {
    if ContinuousClock.now > deadline { throw .tooSlow(format: .bmp, limit: limit) }
  }

  private static func unpack(
    _ line: ArraySlice<UInt8>, _ at: Int, _ green: Int
  ) -> Colour {
    let value = Int(line[at]) | Int(line[at + 1]) << 8
    let greens = (1 << green) - 1
    return (
      UInt8((value >> (5 + green) & 31) * 255 / 31), UInt8((value >> 5 & greens) * 255 / greens),
      UInt8((value & 31) * 255 / 31)
    )
  }

  private static func overWhite(_ colour: UInt8, _ alpha: UInt8) -> UInt8 {
    let sum = 255 * (255 - Int(alpha)) + Int(colour) * Int(alpha) + 128
    return UInt8((sum >> 8 + sum) >> 8)
  }

  // MARK: Run lengths

  private func unpackedRuns(bits: Int) throws(ImageError) -> [UInt8] {
    // A run of 255 pixels takes two bytes: what is larger than that cannot be complete, unless
    // it skips; such files are not worth their memory.
    let input = max(0, reader.count - dataOffset)
    guard size.pixelCount <= max(1 << 20, input * 255) else { throw .truncated(format: .bmp) }
    var runs = RunDecoder(reader, at: dataOffset, width: size.width, count: size.pixelCount)
    while runs.step(bits: bits) {}
    guard runs.indices.count == size.pixelCount else { throw .truncated(format: .bmp) }
    var pixels: [UInt8] = []
    pixels.reserveCapacity(size.pixelCount * 3)
    for y in 0..<size.height {
      let start = (isTopDown ? y : size.height - 1 - y) * size.width
      try checkTime()
      for x in 0..<size.width { append(colours[Int(runs.indices[start + x])], to: &pixels) }
    }
    return pixels
  }
}

/// The run-length code of BMP: pairs of a count and a value, with escapes behind a count of zero.
private struct RunDecoder {
  private(set) var indices: [UInt8] = []
  private let reader: ByteReader
  private let width: Int
  private let count: Int
  private var offset: Int
  private var x = 0

  init(_ reader: ByteReader, at offset: Int, width: Int, count: Int) {
    self.reader = reader
    self.offset = offset
    self.width = width
    self.count = count
    indices.reserveCapacity(count)
  }

  /// Reads one code; false at the end of the picture or of the data.
  mutating func step(bits: Int) -> Bool {
    guard indices.count < count, let repeats = next(), let value = next() else { return false }
    if repeats > 0 {
      let length = min(max(0, width - x), repeats, count - indices.count)
      for index in 0..<length { indices.append(Self.pixel(value, index, bits)) }
      x += length
      return true
    }
    switch value {
    case 0:
      let partial = indices.count % width
      if partial > 0 { fill(width - partial) }
      x = 0
    case 1: return false
    case 2:
      guard let right = next(), let up = next() else { return false }
      fill(right + up * width)
      x = indices.count % width
    default: return literal(value, bits)
    }
    return true
  }

  private mutating func literal(_ length: Int, _ bits: Int) -> Bool {
    let taken = min(count - indices.count, length)
    let perByte = 8 / bits
    for index in 0..<taken {
      guard let byte = reader.integer(at: offset + index / perByte, byteCount: 1) else {
        return false
      }
      indices.append(Self.pixel(byte, index, bits))
    }
    offset += (taken + perByte - 1) / perByte
    x += length
    if !offset.isMultiple(of: 2) { offset += 1 }
    return true
  }

  /// Pixel `index` of a byte: itself with eight bits, the high and low half in turn with four.
  private static func pixel(_ byte: Int, _ index: Int, _ bits: Int) -> UInt8 {
    UInt8(bits == 8 ? byte : index.isMultiple(of: 2) ? byte >> 4 : byte & 15)
  }

  private mutating func fill(_ length: Int) {
    indices.append(contentsOf: repeatElement(0, count: min(length, count - indices.count)))
  }

  private mutating func next() -> Int? {
    guard let byte = reader.integer(at: offset, byteCount: 1) else { return nil }
    offset += 1
    return byte
  }
}
