import Foundation
import JSONScanning

/// The chat page, the description of the API, and what goes with them.
enum PageRoutes {
  private static let policy =
    "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    + "connect-src *; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'"

  /// The chat page, nil when it is switched off.
  static func page(_ context: APIContext) -> HTTPResponse? {
    guard context.settings.servesPage, let body = resource("chat", "html") else { return nil }
    return html(body)
  }

  static func docs() -> HTTPResponse {
    html(resource("docs", "html") ?? [])
  }

  static func openAPI(_ context: APIContext) -> HTTPResponse {
    HTTPResponse(
      contentType: "application/json",
      body: OpenAPIDocument.json(version: context.settings.version).bytes)
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

  private static func resource(_ name: String, _ type: String) -> [UInt8]? {
    guard
      let url = Bundle.module.url(
        forResource: name, withExtension: type, subdirectory: "Resources"),
      let data = try? Data(contentsOf: url)
    else { return nil }
    return [UInt8](data)
  }
}
