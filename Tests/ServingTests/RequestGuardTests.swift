import Serving
import Testing

/// Feeds text in one piece and byte by byte; both must come to the same verdict.
private func verdict(_ text: String, body: Int = 1000) -> Int? {
  var limits = RequestGuard.Limits()
  limits.bodyByteCount = body
  limits.headByteCount = 4096
  let bytes = Array(text.utf8)
  var whole = RequestGuard(limits: limits)
  var single = RequestGuard(limits: limits)
  var statuses: [Int?] = []
  do throws(RequestGuard.Rejection) {
    try whole.consume(bytes)
    statuses.append(nil)
  } catch { statuses.append(error.status) }
  do throws(RequestGuard.Rejection) {
    for byte in bytes { try single.consume([byte]) }
    statuses.append(nil)
  } catch { statuses.append(error.status) }
  #expect(statuses[0] == statuses[1])
  #expect(whole.framedCount == single.framedCount)
  return statuses[0]
}

private let hostLine = "Host: x\r\n"

@Suite struct RequestGuardTests {
  @Test(arguments: [
    "GET / HTTP/1.1\r\n\(hostLine)\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "POST /a HTTP/1.1\r\n\(hostLine)Content-Length: 3\r\n\r\nabc",
    "POST /a HTTP/1.1\r\n\(hostLine)Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\n\(hostLine)Transfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\n\(hostLine)\r\n",
    "POST /a HTTP/1.1\r\n\(hostLine)Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
  ])
  func passesPlainRequests(_ text: String) {
    #expect(verdict(text) == nil)
    #expect(verdict(text + text) == nil)
  }

  @Test(arguments: [
    ("GET / HTTP/1.1\r\n\r\n", 400),  // no Host
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),  // space before the colon
    ("GET / HTTP/1.1\r\n\(hostLine) folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\n\(hostLine)\r\n", 400),
    ("\r\nGET / HTTP/1.1\r\n\(hostLine)\r\n", 400),
    ("GET  / HTTP/1.1\r\n\(hostLine)\r\n", 400),
    ("GET x HTTP/1.1\r\n\(hostLine)\r\n", 400),
    ("GET / HTTP/2.0\r\n\(hostLine)\r\n", 505),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("GARBAGE\r\n\r\n", 400),
    ("\u{0}\u{1}\u{2}", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Content-Length: -5\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Content-Length: +5\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Content-Length: 1001\r\n\r\n", 413),
    ("POST / HTTP/1.1\r\n\(hostLine)Transfer-Encoding: gzip\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\n\(hostLine)Transfer-Encoding:\tchunked\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Transfer-Encoding: chunked\r\n\r\n3e9\r\n", 413),
    ("POST / HTTP/1.1\r\n\(hostLine)Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
    ("POST / HTTP/1.1\r\n\(hostLine)Expect: miracles\r\n\r\n", 417),
    ("HEAD / HTTP/1.1\r\n\(hostLine)Content-Length: 5\r\n\r\n", 400),
  ])
  func refusesWhatIsNot(_ text: String, status: Int) {
    #expect(verdict(text) == status)
  }

  @Test func refusesHeadersPastTheLimit() {
    let long = "GET / HTTP/1.1\r\n\(hostLine)A: \(String(repeating: "a", count: 5000))\r\n\r\n"
    #expect(verdict(long) == 431)
    let many = String(repeating: "A: b\r\n", count: 200)
    #expect(verdict("GET / HTTP/1.1\r\n\(hostLine)\(many)\r\n") == 431)
  }

  @Test func countsWholeRequests() throws {
    var byteGuard = RequestGuard(limits: RequestGuard.Limits())
    try byteGuard.consume(Array("GET / HTTP/1.1\r\n\(hostLine)\r\nGET / HT".utf8))
    #expect(byteGuard.framedCount == 1)
    #expect(byteGuard.isMidRequest)
    try byteGuard.consume(Array("TP/1.1\r\n\(hostLine)\r\n".utf8))
    #expect(byteGuard.framedCount == 2)
    #expect(!byteGuard.isMidRequest)
  }
}
