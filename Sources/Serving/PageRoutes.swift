import Foundation
import JSONScanning

/// A page whose scripts and styles carry a number that is new in every answer: no other script runs
/// there, whatever text finds its way in.
struct Page: Sendable {
  private let parts: [[UInt8]]

  init(_ text: String) {
    parts = text.components(separatedBy: "{{nonce}}").map { Array($0.utf8) }
  }

  /// The answer with this page.
  var response: HTTPResponse {
    let nonce = Identifiers.make("")
    let policy =
      "default-src 'self'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; "
      + "connect-src *; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
      + "frame-ancestors 'none'"
    return HTTPResponse(
      contentType: "text/html; charset=utf-8", body: Array(parts.joined(separator: nonce.utf8)),
      headers: [
        HTTPField("Content-Security-Policy", policy), HTTPField("Cache-Control", "no-cache"),
        HTTPField("X-Content-Type-Options", "nosniff"),
      ])
  }
}

/// The chat page and the description of the API, read when the server is made.
struct Pages: Sendable {
  /// nil when it is switched off.
  let chat: Page?
  let docs: Page
  let openAPI: [UInt8]
  /// The same as `openAPI`, read.
  let description: JSONValue

  /// The chat page's scripts, each using those before it.
  private static let scripts = ["math", "markdown", "store", "client", "view", "main"]

  init(_ settings: APISettings) {
    chat = settings.servesPage ? Page(Self.chatPage) : nil
    docs = Page(Self.text("docs.html"))
    description = OpenAPIDocument.json(
      Self.resource("openapi.json"), version: settings.version, needsKey: !settings.keys.isEmpty)
    openAPI = description.bytes
  }

  /// One document of the page's files, so that it comes with one request.
  private static var chatPage: String {
    let script = scripts.map { text("chat/\($0).js") }.joined()
    return text("chat/index.html")
      .replacingOccurrences(of: "{{style}}", with: text("chat/chat.css"))
      .replacingOccurrences(of: "{{script}}", with: script)
  }

  private static func text(_ name: String) -> String {
    String(decoding: resource(name), as: UTF8.self)
  }

  private static func resource(_ name: String) -> [UInt8] {
    let url = Bundle.module.bundleURL.appendingPathComponent("Resources/\(name)")
    return (try? Data(contentsOf: url)).map { [UInt8]($0) } ?? []
  }
}

/// The routes that people look at.
enum PageRoutes {
  /// The chat page, nil when it is switched off.
  static func page(_ context: APIContext) -> HTTPResponse? {
    context.pages.chat?.response
  }

  static func docs(_ context: APIContext) -> HTTPResponse {
    context.pages.docs.response
  }

  static func openAPI(_ context: APIContext) -> HTTPResponse {
    HTTPResponse(contentType: "application/json", body: context.pages.openAPI)
  }

  static func icon() -> HTTPResponse {
    let drawing =
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path fill='#3b6fd4' "
      + "d='M1 11h4v4H1zM6 6h4v9H6zM11 1h4v14h-4z'/></svg>"
    return HTTPResponse(
      contentType: "image/svg+xml", body: Array(drawing.utf8),
      headers: [HTTPField("Cache-Control", "max-age=86400")])
  }
}
