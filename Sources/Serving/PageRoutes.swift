import Foundation
import JSONScanning

/// The chat page and the description of the API, read when the server is made.
struct Pages: Sendable {
  let chat: [UInt8]
  let docs: [UInt8]
  let openAPI: [UInt8]
  /// The same as `openAPI`, read.
  let description: JSONValue

  init(_ settings: APISettings) {
    chat = settings.servesPage ? Self.resource("chat.html") : []
    docs = Self.resource("docs.html")
    description = OpenAPIDocument.json(
      Self.resource("openapi.json"), version: settings.version, needsKey: !settings.keys.isEmpty)
    openAPI = description.bytes
  }

  private static func resource(_ name: String) -> [UInt8] {
    let url = Bundle.module.bundleURL.appendingPathComponent("Resources/\(name)")
    return (try? Data(contentsOf: url)).map { [UInt8]($0) } ?? []
  }
}

/// The routes that people look at.
enum PageRoutes {
  private static let policy =
    "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    + "connect-src *; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'"

  /// The chat page, nil when it is switched off.
  static func page(_ context: APIContext) -> HTTPResponse? {
    context.pages.chat.isEmpty ? nil : html(context.pages.chat)
  }

  static func docs(_ context: APIContext) -> HTTPResponse {
    html(context.pages.docs)
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

  private static func html(_ body: [UInt8]) -> HTTPResponse {
    HTTPResponse(
      contentType: "text/html; charset=utf-8", body: body,
      headers: [
        HTTPField("Content-Security-Policy", policy), HTTPField("Cache-Control", "no-cache"),
        HTTPField("X-Content-Type-Options", "nosniff"),
      ])
  }
}
