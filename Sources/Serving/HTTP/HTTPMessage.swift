/// A request whose head and body have arrived whole.
package struct HTTPRequest: Sendable {
  /// GET, POST, … as sent.
  package var method: String
  /// The path, percent-decoding undone, without the query.
  package var path: String
  /// What follows the question mark, undecoded; empty when there is none.
  package var query: String
  /// Header fields in the order received.
  package var headers: [HTTPField]
  package var body: [UInt8]
  /// The client's address, without its port.
  package var client: String
  /// The request's name in answers and logs: the client's own, or one made here.
  package var id: String

  package init(
    method: String, path: String, query: String = "", headers: [HTTPField] = [],
    body: [UInt8] = [], client: String = "", id: String = ""
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.headers = headers
    self.body = body
    self.client = client
    self.id = id
  }

  /// The first field of that name, case ignored.
  package func header(_ name: String) -> String? {
    headers.first { $0.name.lowercased() == name }?.value
  }
}

/// One header field.
package struct HTTPField: Sendable, Equatable {
  /// The name as sent.
  package var name: String
  /// The value without the space around it.
  package var value: String

  package init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

/// A whole answer.
package struct HTTPResponse: Sendable, Equatable {
  /// The status code.
  package var status: Int
  /// Header fields; length, date and connection are added on the way.
  package var headers: [HTTPField]
  package var body: [UInt8]

  package init(status: Int, headers: [HTTPField] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// An answer with a body of the given type.
  package init(
    status: Int = 200, contentType: String, body: [UInt8], headers: [HTTPField] = []
  ) {
    self.init(
      status: status, headers: [HTTPField("Content-Type", contentType)] + headers, body: body)
  }
}

/// The words that go with a status code.
func reasonPhrase(_ status: Int) -> String {
  switch status {
  case 200: "OK"
  case 204: "No Content"
  case 400: "Bad Request"
  case 401: "Unauthorized"
  case 403: "Forbidden"
  case 404: "Not Found"
  case 405: "Method Not Allowed"
  case 408: "Request Timeout"
  case 409: "Conflict"
  case 413: "Content Too Large"
  case 415: "Unsupported Media Type"
  case 417: "Expectation Failed"
  case 429: "Too Many Requests"
  case 431: "Request Header Fields Too Large"
  case 500: "Internal Server Error"
  case 501: "Not Implemented"
  case 503: "Service Unavailable"
  case 505: "HTTP Version Not Supported"
  default: status < 400 ? "OK" : "Error"
  }
}
