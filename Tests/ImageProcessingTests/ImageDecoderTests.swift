import Foundation
import ImageProcessing
import TestSupport
import Testing

@Suite("Decoding")
struct ImageDecoderTests {
  struct Case: Decodable, Sendable {
    let name: String
    let base64: String
    let size: [Int]
    let overWhite: UInt32
    let drop: UInt32

    enum CodingKeys: String, CodingKey {
      case name, base64, size, drop
      case overWhite = "over_white"
    }

    var bytes: [UInt8] { [UInt8](Data(base64Encoded: base64) ?? Data()) }
  }

  static func cases() throws -> [Case] { try Fixtures.json([Case].self, "images/files.json") }

  /// The first file of one picture whose name begins so.
  static func file(_ prefix: String) throws -> [UInt8] {
    let item = try cases().first {
      $0.name.hasPrefix(prefix) && !$0.name.contains("append_images")
    }
    return try #require(item).bytes
  }

  @Test("gives the pixels of Pillow for every kind of file, upright, over white or without alpha")
  func equalsPillow() throws {
    let cases = try Self.cases()
    #expect(cases.count == 180)
    for item in cases {
      for (rule, expected) in [(TransparencyRule.overWhite, item.overWhite), (.drop, item.drop)] {
        let decoder = ImageDecoder(transparency: rule)
        let image = try decoder.decode(item.bytes)
        #expect([image.size.width, image.size.height] == item.size, "\(item.name)")
        #expect(Checksum.crc32(image.bytes) == expected, "\(item.name), \(rule)")
        #expect(try decoder.measure(item.bytes).size == image.size)
      }
    }
  }

  @Test("decodes or refuses every truncation of every kind of file, and never crashes")
  func survivesTruncation() throws {
    for kind in ["JPEG RGB", "JPEG CMYK", "PNG colour 3", "PNG colour 6", "WebP", "GIF", "BMP"] {
      let bytes = try Self.file(kind)
      var refused = 0
      for length in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 60)) {
        do { _ = try ImageDecoder().decode(Array(bytes[..<length])) } catch {
          refused += 1
          #expect(!"\(error)".isEmpty)
        }
      }
      // Only the last bytes may be missing without harm.
      #expect(refused >= 57, "\(kind)")
    }
  }

  @Test("says that a file is truncated", arguments: ["JPEG", "PNG", "WebP", "GIF", "BMP"])
  func namesTruncation(kind: String) throws {
    let bytes = try Self.file(kind)
    let format = try #require(ImageFormat(sniffing: bytes))
    #expect(throws: ImageError.truncated(format: format)) {
      try ImageDecoder().decode(Array(bytes[..<(bytes.count * 3 / 4)]))
    }
  }

  @Test("refuses a wrong checksum in any chunk of a PNG")
  func refusesWrongChecksum() throws {
    let bytes = try Self.file("PNG colour 3")
    var offset = 8
    var chunks = 0
    while offset + 12 <= bytes.count {
      let length = bytes[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) }
      var broken = bytes
      broken[offset + 8 + length] ^= 0x40
      #expect(throws: ImageError.self) { try ImageDecoder().decode(broken) }
      offset += 12 + length
      chunks += 1
    }
    #expect(chunks >= 4)
  }

  /// A PNG of one colour type with nothing but a header and too little data.
  static func headerOfPNG(width: UInt32, height: UInt32) -> [UInt8] {
    func bigEndian(_ value: UInt32) -> [UInt8] {
      [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
    }
    func chunk(_ name: String, _ data: [UInt8]) -> [UInt8] {
      let body = Array(name.utf8) + data
      return bigEndian(UInt32(data.count)) + body + bigEndian(Checksum.crc32(body))
    }
    return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
      + chunk("IHDR", bigEndian(width) + bigEndian(height) + [8, 2, 0, 0, 0])
      + chunk("IDAT", [0x78, 0x9C, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01]) + chunk("IEND", [])
  }

  @Test("refuses what is too large by its header, before memory is taken")
  func refusesBombs() throws {
    let decoder = ImageDecoder()
    let line = ImageSize(width: 1, height: 100_000)
    #expect(throws: ImageError.sideTooLong(size: line, limit: 65_535)) {
      try decoder.decode(Self.headerOfPNG(width: 1, height: 100_000))
    }
    let bomb = ImageSize(width: 60_000, height: 60_000)
    #expect(throws: ImageError.tooManyPixels(size: bomb, limit: 100_000_000)) {
      try decoder.decode(Self.headerOfPNG(width: 60_000, height: 60_000))
    }
    var strict = ImageDecoder()
    strict.limits.byteCount = 10
    #expect(throws: ImageError.tooManyBytes(count: 91, limit: 10)) {
      try strict.decode([UInt8](repeating: 0, count: 91))
    }
    #expect(throws: ImageError.self) { try decoder.decode(Self.headerOfPNG(width: 0, height: 5)) }
  }

  @Test("stops when its time is up", arguments: ["JPEG", "PNG", "WebP", "GIF"])
  func stopsInTime(kind: String) throws {
    var decoder = ImageDecoder()
    decoder.limits.duration = .seconds(-1)
    let bytes = try Self.file(kind)
    let format = try #require(ImageFormat(sniffing: bytes))
    // Small baseline JPEGs are done before anybody looks at the clock.
    let isQuick = kind == "JPEG"
    do throws(ImageError) {
      _ = try decoder.decode(bytes)
      #expect(isQuick)
    } catch {
      #expect(error == .tooSlow(format: format, limit: decoder.limits.duration))
    }
  }

  @Test("goes by content, and says what other data look like")
  func sniffs() throws {
    #expect(throws: ImageError.empty) { try ImageDecoder().decode([]) }
    #expect(throws: ImageError.unknownFormat(found: "PDF")) {
      try ImageDecoder().decode(Array("%PDF-1.7".utf8))
    }
    #expect(throws: ImageError.unknownFormat(found: "data that begin with 01 02 03")) {
      try ImageDecoder().decode([1, 2, 3])
    }
    #expect(try ImageDecoder().measure(Self.file("GIF")).format == .gif)
  }

  @Test("turns by XMP where EXIF says nothing")
  func readsXMP() throws {
    var bytes = try Self.file("JPEG L")
    let plain = try ImageDecoder().measure(bytes).size
    for (text, isTurned) in [
      ("<a tiff:Orientation=\"6\"/>", true), ("<tiff:Orientation>8</tiff:Orientation>", true),
      ("<a tiff:Orientation=\"9\"/>", false), ("<tiff:Orientation", false),
    ] {
      let segment = Array("http://ns.adobe.com/xap/1.0/".utf8) + [0] + Array(text.utf8)
      bytes = try Self.file("JPEG L")
      bytes.insert(contentsOf: [0xFF, 0xE1, 0, UInt8(segment.count + 2)] + segment, at: 2)
      let size = try ImageDecoder().measure(bytes).size
      let turned = ImageSize(width: plain.height, height: plain.width)
      #expect(size == (isTurned ? turned : plain), "\(text)")
      #expect(try ImageDecoder().decode(bytes).size == size)
    }
  }

  @Test("keeps to its promises on inputs that broke it once")
  func survivesCrashes() throws {
    let folder = Fixtures.url("images/crashes")
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    var decoder = ImageDecoder()
    decoder.limits.pixelCount = 1 << 20
    decoder.limits.duration = .seconds(5)
    for name in names.sorted() {
      let bytes = [UInt8](try Data(contentsOf: folder.appendingPathComponent(name)))
      do {
        let image = try decoder.decode(bytes)
        #expect(try decoder.measure(bytes).size == image.size, "\(name)")
      } catch { #expect(!"\(error)".isEmpty) }
    }
  }
}
