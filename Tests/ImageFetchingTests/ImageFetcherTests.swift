import ImageFetching
import Testing

@Suite("Fetching over HTTP")
struct ImageFetcherTests {
  static func policy(_ domains: [String] = ["127.0.0.1", "localhost"]) -> FetchPolicy {
    var policy = FetchPolicy(allowedDomains: domains)
    policy.addresses = .publicAndLoopback
    policy.byteLimit = 1 << 20
    return policy
  }

  @Test("returns the body, also behind redirects, relative and to other hosts")
  func fetches() async throws {
    let body = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let server = try LoopbackServer { path in
      switch path {
      case "/image": LoopbackServer.ok(body)
      case "/relative": LoopbackServer.redirect("/image")
      default: LoopbackServer.redirect("/relative")
      }
    }
    defer { server.stop() }
    let fetcher = ImageFetcher(policy: Self.policy())
    #expect(try await fetcher.bytes(of: server.url("/image")) == body)
    #expect(try await fetcher.bytes(of: server.url("/twice", host: "localhost")) == body)
    #expect(try fetcher.bytesBlocking(of: server.url("/image")) == body)
  }

  @Test("asks no server while no domain is allowed, nor one that is not on the list")
  func honoursList() async throws {
    let server = try LoopbackServer { _ in LoopbackServer.ok([1]) }
    defer { server.stop() }
    await #expect(throws: FetchError.fetchingDisabled) {
      try await ImageFetcher().bytes(of: server.url("/"))
    }
    await #expect(throws: FetchError.domainNotAllowed(host: "127.0.0.1")) {
      try await ImageFetcher(policy: Self.policy(["example.org", "*.0.0.1.example"]))
        .bytes(of: server.url("/"))
    }
    #expect(server.paths.isEmpty)
  }

  @Test("holds redirects to the list of domains")
  func checksRedirects() async throws {
    let server = try LoopbackServer { path in
      path == "/file"
        ? LoopbackServer.redirect("file:///etc/hostname")
        : LoopbackServer.redirect("http://localhost:9/elsewhere")
    }
    defer { server.stop() }
    let fetcher = ImageFetcher(policy: Self.policy(["127.0.0.1"]))
    await #expect(throws: FetchError.domainNotAllowed(host: "localhost")) {
      try await fetcher.bytes(of: server.url("/other"))
    }
    await #expect(throws: FetchError.unsupportedScheme("file")) {
      try await fetcher.bytes(of: server.url("/file"))
    }
  }

  @Test(
    "connects to no loopback address, however it is written, unless told so",
    arguments: [
      "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]",
    ]
  )
  func refusesLoopback(host: String) async throws {
    let server = try LoopbackServer { _ in LoopbackServer.ok([1]) }
    defer { server.stop() }
    var policy = FetchPolicy(allowedDomains: ["*"])
    policy.timeLimit = .seconds(10)
    let url = server.url("/", host: host)
    let error = await #expect(throws: FetchError.self) {
      try await ImageFetcher(policy: policy).bytes(of: url)
    }
    // Where a machine has no IPv6, a mapped address leads nowhere.
    if case .unreachable = error, host.contains(":") { return }
    guard case .addressNotAllowed = error else {
      Issue.record("\(host): \(String(describing: error))")
      return
    }
    #expect(server.paths.isEmpty)
  }

  @Test("refuses a redirect from an allowed host to a private address before connecting")
  func refusesPrivateRedirect() async throws {
    let metadata = [169, 254, 169, 254].map(String.init).joined(separator: ".")
    let server = try LoopbackServer { _ in LoopbackServer.redirect("http://\(metadata)/latest") }
    defer { server.stop() }
    await #expect(throws: FetchError.addressNotAllowed(host: metadata)) {
      try await ImageFetcher(policy: Self.policy(["*"])).bytes(of: server.url("/"))
    }
  }

  @Test("stops a body above the limit in the middle, whether its length is announced or not")
  func limitsBytes() async throws {
    let server = try LoopbackServer { path in
      path == "/announced"
        ? .endless("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        : .endless("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    }
    defer { server.stop() }
    let fetcher = ImageFetcher(policy: Self.policy())
    for path in ["/announced", "/endless"] {
      await #expect(throws: FetchError.tooLarge(limit: 1 << 20)) {
        try await fetcher.bytes(of: server.url(path))
      }
    }
    #expect(server.sentByteCount < 64 << 20)
  }

  @Test("gives up on a silent server, and at once when its task is cancelled")
  func limitsTime() async throws {
    let server = try LoopbackServer { _ in .silence }
    defer { server.stop() }
    var policy = Self.policy()
    policy.timeLimit = .milliseconds(300)
    let host = "127.0.0.1"
    await #expect(throws: FetchError.tooSlow(host: host, limit: policy.timeLimit)) {
      try await ImageFetcher(policy: policy).bytes(of: server.url("/"))
    }
    policy.timeLimit = .seconds(600)
    let patient = ImageFetcher(policy: policy)
    let task = Task { try await patient.bytes(of: server.url("/")) }
    while server.paths.count < 2 { try await Task.sleep(for: .milliseconds(5)) }
    task.cancel()
    await #expect(throws: FetchError.cancelled) { try await task.value }
  }

  @Test("follows no more redirects than the limit")
  func limitsRedirects() async throws {
    let server = try LoopbackServer { LoopbackServer.redirect($0 + "x") }
    defer { server.stop() }
    await #expect(throws: FetchError.tooManyRedirects(limit: 3)) {
      try await ImageFetcher(policy: Self.policy()).bytes(of: server.url("/"))
    }
    #expect(server.paths.count == 4)
  }

  @Test("tells errors of servers, closed ports, other schemes, credentials and nonsense apart")
  func reportsFailures() async throws {
    let server = try LoopbackServer { _ in
      .bytes(Array("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".utf8))
    }
    let fetcher = ImageFetcher(policy: Self.policy())
    await #expect(throws: FetchError.status(host: "127.0.0.1", code: 404)) {
      try await fetcher.bytes(of: server.url("/"))
    }
    server.stop()
    await #expect(throws: FetchError.unsupportedScheme("ftp")) {
      try await fetcher.bytes(of: "ftp://localhost/image")
    }
    await #expect(throws: FetchError.unsupportedScheme("file")) {
      try await fetcher.bytes(of: "file:///etc/hostname")
    }
    await #expect(throws: FetchError.credentials) {
      try await fetcher.bytes(of: "http://user:word@localhost/")
    }
    for text in ["", "image.png", "http://", "http://a b/"] {
      await #expect(throws: FetchError.self) { try await fetcher.bytes(of: text) }
    }
  }
}
