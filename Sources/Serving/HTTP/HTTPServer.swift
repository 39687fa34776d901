import Foundation
import Synchronization

/// What a server does with requests.
package protocol HTTPHandler: Sendable {
  /// Answers on the event loop's own thread, for requests that must never wait behind others; nil
  /// leaves the request to `handle`. Must return at once.
  func immediate(_ request: HTTPRequest) -> HTTPResponse?

  /// Answers through the exchange. Its task is cancelled when the client leaves.
  func handle(_ exchange: HTTPExchange) async

  /// Header fields that every answer to the request carries.
  func commonHeaders(_ request: HTTPRequest) -> [HTTPField]

  /// The answer to bytes that are no acceptable request.
  func refusal(status: Int, reason: String, method: String, target: String) -> HTTPResponse
}

/// How a server listens and what it bears.
package struct HTTPServerOptions: Sendable {
  /// The address to listen on.
  package var host = "127.0.0.1"
  /// 0 takes any free port.
  package var port = 8000
  /// PEM files of the certificate chain and its key; both or none.
  package var certificates: String?
  package var key: String?
  package var maximumHeadByteCount = 64 * 1024
  package var maximumBodyByteCount = 64 << 20
  /// Seconds a connection may be silent, between requests or in a stalled answer.
  package var idleSeconds = 75
  /// Seconds a request's head may take from its first byte to its last.
  package var headSeconds = 20.0
  /// Seconds a body may take, plus one per 64 KiB of it.
  package var bodySeconds = 60.0
  /// Seconds of silence after which an event stream gets a comment; 0 for never.
  package var keepAliveSeconds = 15.0

  package init() {}
}

/// An HTTP/1.1 server: one thread that runs evhttp, handlers as tasks.
package final class HTTPServer: Sendable {
  /// The port listened on.
  package let port: Int
  private let loop: EventLoop
  private let isStopped = Mutex(false)

  /// Opens the port and starts serving.
  package init(
    options: HTTPServerOptions, handler: any HTTPHandler
  ) throws(HTTPServerError) {
    loop = try EventLoop(options: options, handler: handler)
    port = loop.port
    let loop = loop
    let thread = Thread { loop.run() }
    thread.name = "http"
    thread.start()
  }

  /// From now on every answer closes its connection, so that clients go elsewhere.
  package func closeAfterAnswers() {
    loop.commands.post(.closeAfterAnswers)
  }

  /// Closes the port and every connection and returns when that is done. Handlers still running see
  /// their clients leave.
  package func stop() async {
    let isFirst = isStopped.withLock { isStopped in
      defer { isStopped = true }
      return !isStopped
    }
    if isFirst { loop.commands.post(.stop) }
    await loop.finished()
  }
}
