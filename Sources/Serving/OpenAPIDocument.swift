import JSONScanning

/// The description of the API at `/openapi.json`.
enum OpenAPIDocument {
  static func json(version: String) -> JSONValue {
    ["openapi": "3.1.0", "info": ["title": "step3", "version": .string(version)], "paths": [:]]
  }
}
