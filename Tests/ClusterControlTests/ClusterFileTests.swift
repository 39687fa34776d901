import ClusterControl
import Disaggregation
import Foundation
import Kernels
import TestSupport
import Testing

@Suite("The cluster file is read strictly")
struct ClusterFileTests {
  private func file(_ text: String) throws(ClusterFileError) -> ClusterFile {
    let folder = try? TemporaryFolder()
    let url = folder?.file("cluster.json") ?? URL(fileURLWithPath: "/nowhere")
    try? Data(text.utf8).write(to: url)
    return try ClusterFile(path: url.path)
  }

  private func cluster(_ ffn: String, more: String = "") -> String {
    """
    {"key": "0123456789abcdef"\(more), "nodes": [
      {"id": "a", "role": "attention", "host": "127.0.0.1", "port": 1}, \(ffn)]}
    """
  }

  private func node(_ id: String, _ port: Int, _ more: String = "") -> String {
    "{\"id\": \"\(id)\", \"role\": \"ffn\", \"host\": \"127.0.0.1\", \"port\": \(port)\(more)}"
  }

  private func message(_ text: String, expertCount: Int = 8) -> String {
    do throws(ClusterFileError) {
      _ = try file(text).layout(expertCount: expertCount)
      return "accepted"
    } catch { return error.description }
  }

  @Test("experts, slices and replicas become the shards of a map")
  func layout() throws {
    let text = cluster(
      [
        node("f0", 2, ", \"experts\": \"0-3\""), node("f1", 3, ", \"experts\": \"4-5,6-7\""),
        node("f2", 4, ", \"experts\": \"0,1-3\""),
      ].joined(separator: ","))
    let layout = try file(text).layout(expertCount: 8)
    #expect(layout.holders == [["f0", "f2"], ["f1"]])
    #expect(layout.map.parts.map(\.experts) == [[0..<4], [4..<8]])
    #expect(layout.map.parts.map(\.denseQuarters) == [0..<2, 2..<4])
    let slices = cluster(
      (0..<4).map { node("f\($0)", 2 + $0, ", \"slice\": \"\($0)/4\"") }.joined(separator: ","))
    #expect(
      try file(slices).layout(expertCount: 8).map
        == ExpertMap.tensorParallel(expertCount: 8, count: 4))
  }

  @Test("what is wrong is said, with the nearest known key and what to do")
  func refusals() {
    let whole = node("f0", 2)
    for (text, words) in [
      (cluster(whole, more: ", \"exchnge\": \"bf16\""), "did you mean \"exchange\"?"),
      (cluster(whole, more: ", \"exchange\": \"bf61\""), "did you mean \"bf16\"?"),
      (cluster(node("f0", 2, ", \"expert\": \"0-3\"")), "did you mean \"experts\"?"),
      (cluster(node("a", 2)), "two nodes have the id \"a\""),
      (cluster(node("f0", 1)), "both listen on 127.0.0.1:1"),
      (cluster(node("f0", 70_000)), "must be a whole number from 1 to 65535"),
      (cluster(node("f0", 2, ", \"experts\": \"3-1\"")), "must be \"all\" or ranges"),
      (cluster(node("f0", 2, ", \"slice\": \"0/3\"")), "with N 1, 2 or 4"),
      (cluster(node("f0", 2, ", \"experts\": \"0-5\"")), "no ffn node holds expert 6"),
      (cluster(node("f0", 2, ", \"experts\": \"0-8\"")), "the model has experts 0 to 7"),
      (cluster(node("f0", 2, ", \"slice\": \"1/2\"")), "lacks slice 0/2"),
      (
        cluster(
          node("f0", 2, ", \"experts\": \"0-4\"") + "," + node("f1", 3, ", \"experts\": \"4-7\"")),
        "is held by 2 shards"
      ),
      (cluster(whole, more: ", \"micro_batches\": 9"), "from 1 to 8"),
      (cluster(whole, more: ", \"kernels\": \"avx51\""), "did you mean \"avx512\"?"),
      (cluster(whole, more: ", \"kernels\": \"mixed\""), "cannot be \"mixed\" with the exact"),
      (cluster(whole, more: ", \"timeouts_ms\": {\"dead\": 5}"), "must be below"),
      ("{\"key\": \"short\", \"nodes\": []}", "at least 16"),
      ("{\"nodes\": []}", "give \"key_file\" or \"key\""),
      ("{\"key\": \"0123456789abcdef\", \"nodes\": []}", "no node has the role \"attention\""),
      ("[", "not valid JSON"),
    ] {
      #expect(message(text).contains(words), "\(message(text))")
    }
    let dense = message(cluster(node("f0", 2, ", \"experts\": \"0\"")), expertCount: 0)
    #expect(dense.contains("the model has none: it is dense"), "\(dense)")
    #expect(message(cluster(whole, more: ", \"micro_batches\": \"auto\"")) == "accepted")
  }

  @Test("the file may name the kernels of all, or let them differ where bits are rounded anyway")
  func kernels() throws {
    let whole = node("f0", 2)
    let named = try file(cluster(whole, more: ", \"kernels\": \"avx2\""))
    #expect(named.kernels == .avx2 && !named.mixesKernels)
    #expect(named.arithmetic(kernels: "avx2", activation: .bfloat16).contains("avx2"))
    let mixed = try file(
      cluster(whole, more: ", \"kernels\": \"mixed\", \"exchange\": \"bf16\""))
    #expect(mixed.kernels == nil && mixed.mixesKernels)
    #expect(
      mixed.arithmetic(kernels: "avx2", activation: .float32)
        == mixed.arithmetic(kernels: "avx512", activation: .float32))
  }
}

@Suite("Only holders of the cluster key with the same model and file get in")
struct HandshakeTests {
  private let key = Array("0123456789abcdef".utf8)

  private func identity(
    _ id: String, _ role: NodeRole, version: Int = 1, model: String = "m", map: String = "x",
    arithmetic: String = "kernels avx512"
  ) -> PeerIdentity {
    PeerIdentity(
      id: id, role: role, protocolVersion: version, modelHash: model, shardMap: map,
      arithmetic: arithmetic)
  }

  /// Runs a handshake; what each side came to.
  private func run(
    _ caller: PeerIdentity, _ listener: PeerIdentity, callerKey: [UInt8]? = nil,
    change: (Int, [UInt8]) -> [UInt8] = { $1 }
  ) -> (caller: Handshake.Step?, listener: Handshake.Step?) {
    var sides = [
      Handshake(own: caller, key: callerKey ?? key) { $0.id == listener.id },
      Handshake(own: listener, key: key) { $0.id == "a0" },
    ]
    var results: [Handshake.Step?] = [nil, nil]
    var message: [UInt8]? = sides[0].begin()
    var receiver = 1
    var number = 0
    while let sent = message, number < 8 {
      let step = sides[receiver].receive(change(number, sent))
      number += 1
      switch step {
      case .send(let bytes): message = bytes
      case .accepted(_, let bytes), .refused(_, let bytes):
        results[receiver] = step
        message = bytes
      }
      receiver = 1 - receiver
    }
    return (results[0], results[1])
  }

  @Test("two that agree accept each other by name")
  func accepted() {
    let (caller, listener) = run(identity("a0", .attention), identity("f0", .ffn))
    guard case .accepted(let far, _)? = caller, case .accepted(let near, _)? = listener else {
      Issue.record("\(String(describing: caller)), \(String(describing: listener))")
      return
    }
    #expect(far.id == "f0" && near.id == "a0")
  }

  @Test("another key, release, model, file or name is refused on both sides, with the reason")
  func refused() {
    let good = identity("a0", .attention)
    let cases: [(PeerIdentity, [UInt8]?, String)] = [
      (good, Array("another-key-of-16".utf8), "cluster keys differ"),
      (identity("a0", .attention, version: 2), nil, "protocol 2 there, 1 here"),
      (identity("a0", .attention, model: "n"), nil, "models differ"),
      (identity("a0", .attention, map: "y"), nil, "cluster files differ"),
      (
        identity("a0", .attention, arithmetic: "kernels avx2"), nil,
        "kernels avx2 there, kernels avx512 here"
      ),
      (identity("a9", .attention), nil, "no attention node \"a9\""),
    ]
    for (caller, otherKey, words) in cases {
      let result = run(caller, identity("f0", .ffn), callerKey: otherKey)
      guard case .refused(let there, _)? = result.listener,
        case .refused(.refusedByPeer(let told), _)? = result.caller
      else {
        Issue.record("\(result)")
        continue
      }
      #expect("\(there)".contains(words) && told.contains(words), "\(there) / \(told)")
    }
  }

  @Test("a changed byte anywhere in any message ends in a refusal, never in admission or a trap")
  func fuzzed() {
    for message in 0..<3 {
      for place in stride(from: 0, to: 400, by: 3) {
        let (caller, listener) = run(identity("a0", .attention), identity("f0", .ffn)) {
          number, bytes in
          guard number == message, place < bytes.count else { return bytes }
          var changed = bytes
          changed[place] ^= 0x20
          return changed
        }
        if case .accepted? = listener, case .accepted? = caller {
          // Only where the message was shorter than the place.
          #expect(place > 35)
        }
      }
    }
    var handshake = Handshake(own: identity("f0", .ffn), key: key) { _ in true }
    guard case .refused(.malformed, _) = handshake.receive([1, 2, 3]) else {
      Issue.record("noise is no handshake")
      return
    }
  }

  @Test("what was recorded cannot be played back")
  func replay() {
    var recorded: [[UInt8]] = []
    _ = run(identity("a0", .attention), identity("f0", .ffn)) { _, bytes in
      recorded.append(bytes)
      return bytes
    }
    var listener = Handshake(own: identity("f0", .ffn), key: key) { _ in true }
    guard case .send = listener.receive(recorded[0]),
      case .refused(.wrongKey, _) = listener.receive(recorded[2])
    else {
      Issue.record("a recorded conversation was accepted")
      return
    }
  }

  @Test("strangers may knock only so often, each address by itself")
  func limiter() {
    var limiter = AttemptLimiter(burst: 3, perSecond: 1)
    let tries = (0..<5).map { _ in limiter.admits("192.0.2.1:5", now: .seconds(1)) }
    #expect(tries == [true, true, true, false, false])
    let other = limiter.admits("192.0.2.2:5", now: .seconds(1))
    let later = limiter.admits("192.0.2.1:6", now: .seconds(2))
    #expect(other && later)
  }

  @Test("a signed request holds once, for its own path and body, for a minute")
  func signature() {
    let body: [UInt8] = [1, 2]
    func sign() -> String {
      RequestSignature.sign(key: key, method: "POST", path: "/p", body: body, seconds: 1000)
    }
    var checker = RequestSignature(key: key)
    let first = sign()
    let results = [
      checker.judge(first, method: "POST", path: "/p", body: body, seconds: 1010),
      checker.judge(first, method: "POST", path: "/p", body: body, seconds: 1010),
      checker.judge(sign(), method: "POST", path: "/q", body: body, seconds: 1010),
      checker.judge(sign(), method: "POST", path: "/p", body: [1], seconds: 1010),
      checker.judge(sign(), method: "POST", path: "/p", body: body, seconds: 1100),
      checker.judge(nil, method: "POST", path: "/p", body: body, seconds: 1010),
    ]
    #expect(
      results == [.admitted, .refused, .refused, .refused, .otherTime(ahead: -100), .refused])
  }
}
