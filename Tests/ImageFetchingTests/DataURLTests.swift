import Foundation
import ImageFetching
import Testing

@Suite("Data URLs")
struct DataURLTests {
  static func decode(_ text: String, limit: Int = 1 << 20) throws -> [UInt8] {
    try DataURL.decode(text.utf8.span, byteLimit: limit)
  }

  @Test("give their bytes for every length, padded or not, whatever type they declare")
  func decodesEveryLength() throws {
    for length in 0..<70 {
      let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ length) }
      let text = Data(bytes).base64EncodedString()
      let bare = text.replacing("=", with: "")
      let urlSafe = bare.replacing("+", with: "-").replacing("/", with: "_")
      for payload in [text, bare, urlSafe] {
        for head in ["image/png;base64", "image;base64", ";base64", "text/x;charset=a;BASE64"] {
          #expect(try Self.decode("data:\(head),\(payload)") == bytes)
        }
      }
    }
    #expect(try Self.decode("DATA:;base64,aGF\r\n s bG8=") == Array("hallo".utf8))
    #expect(try Self.decode("data:,a%20b%FF") == Array("a b".utf8) + [255])
  }

  @Test(
    "are refused when their base64 is broken",
    arguments: ["a", "ab=", "abc==", "ab==c", "a===", "ab!d", "abcd=", "é"])
  func refusesBrokenBase64(payload: String) {
    #expect(throws: FetchError.self) { try Self.decode("data:image/png;base64,\(payload)") }
  }

  @Test("are refused without a comma, and above the limit before memory is taken")
  func refusesOthers() {
    #expect(throws: FetchError.self) { try Self.decode("data:image/png;base64") }
    #expect(throws: FetchError.self) { try Self.decode("http://localhost/") }
    let large = "data:;base64," + String(repeating: "A", count: 4000)
    #expect(throws: FetchError.tooLarge(limit: 1000)) { try Self.decode(large, limit: 1000) }
    #expect(throws: FetchError.tooLarge(limit: 2)) { try Self.decode("data:,abc", limit: 2) }
    #expect(throws: FetchError.badDataURL(reason: "a % without two hexadecimal digits")) {
      try Self.decode("data:,a%2")
    }
  }
}
