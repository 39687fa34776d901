/// The file formats that are read.
package enum ImageFormat: String, Sendable, CaseIterable {
  case jpeg = "JPEG"
  case png = "PNG"
  case webp = "WebP"
  case gif = "GIF"
  case bmp = "BMP"

  /// The format that the first bytes announce; names and declared types are never looked at.
  package init?(sniffing bytes: [UInt8]) {
    switch true {
    case bytes.starts(with: [0xFF, 0xD8, 0xFF]): self = .jpeg
    case bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]): self = .png
    case bytes.starts(with: Array("RIFF".utf8)) && bytes.count >= 12
      && bytes[8..<12].elementsEqual("WEBP".utf8):
      self = .webp
    case bytes.starts(with: Array("GIF87a".utf8)), bytes.starts(with: Array("GIF89a".utf8)):
      self = .gif
    case bytes.starts(with: Array("BM".utf8)): self = .bmp
    default: return nil
    }
  }

  /// What other data look like, for messages: a known format that is not read, or the first bytes.
  static func describe(_ bytes: [UInt8]) -> String {
    let others: [(name: String, offset: Int, mark: [UInt8])] = [
      ("TIFF", 0, [0x49, 0x49, 0x2A, 0x00]), ("TIFF", 0, [0x4D, 0x4D, 0x00, 0x2A]),
      ("AVIF", 4, Array("ftypavif".utf8)), ("HEIC", 4, Array("ftyphei".utf8)),
      ("JPEG XL", 0, [0xFF, 0x0A]), ("JPEG 2000", 4, Array("jP  ".utf8)),
      ("PDF", 0, Array("%PDF".utf8)), ("SVG or XML", 0, Array("<?xml".utf8)),
      ("SVG", 0, Array("<svg".utf8)), ("HTML", 0, Array("<!".utf8)),
      ("HTML", 0, Array("<html".utf8)), ("base64 text", 0, Array("data:".utf8)),
    ]
    let known = others.first { bytes.dropFirst($0.offset).starts(with: $0.mark) }
    if let known { return known.name }
    let hexadecimal = bytes.prefix(8).map { byte in
      (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
    return "data that begin with " + hexadecimal.joined(separator: " ")
  }
}
