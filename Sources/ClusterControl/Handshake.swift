import JSONScanning

// Who may join, in three messages:
//
//     caller                                listener
//       hello: identity, nonce a   →
//                                  ←   welcome: identity, nonce b, proof over (a, b, both)
//       confirm: proof over all    →
//
// Every message is JSON behind 32 bytes of HMAC-SHA256 over all messages so far under the cluster
// key. The nonces make each conversation another one, so that nothing can be played back. Either
// side refuses with a reason that a person can act on.

/// What a process says of itself, and what its peers must agree with.
package struct PeerIdentity: Sendable, Equatable {
  /// The node's name in the cluster file.
  package var id: String
  package var role: NodeRole
  /// The version of the exchange; peers must have the same.
  package var protocolVersion: Int
  /// Tells the checkpoint apart; peers must have the same.
  package var modelHash: String
  /// A digest of who holds what and how results travel; peers must have the same.
  package var mapHash: String
  /// What sums are computed with: kernels and precision. Peers must have the same, or the last
  /// bits of an answer would depend on who computed it.
  package var arithmetic: String
  /// The membership that the sender knows.
  package var epoch: Int
  /// Another number each time the process starts.
  package var incarnation: String
  /// Whether it only looks at the link and takes no part.
  package var isProbe = false

  /// An identity of this process.
  package init(
    id: String, role: NodeRole, protocolVersion: Int, modelHash: String, shardMap: String,
    arithmetic: String = "", epoch: Int = 0, incarnation: String = PeerIdentity.newIncarnation()
  ) {
    self.id = id
    self.role = role
    self.protocolVersion = protocolVersion
    self.modelHash = modelHash
    mapHash = String(Authentication.digest(shardMap).prefix(16))
    self.arithmetic = arithmetic
    self.epoch = epoch
    self.incarnation = incarnation
  }

  /// A number that no other start of a process has.
  package static func newIncarnation() -> String {
    Authentication.hexadecimal(Array(Authentication.nonce().prefix(8)))
  }

  fileprivate var json: JSONValue {
    [
      "id": .string(id), "role": .string(role.rawValue), "protocol": .integer(protocolVersion),
      "model": .string(modelHash), "map": .string(mapHash), "arithmetic": .string(arithmetic),
      "epoch": .integer(epoch), "incarnation": .string(incarnation), "probe": .boolean(isProbe),
    ]
  }

  fileprivate init?(_ json: JSONValue?) {
    guard let json, let id = json["id"]?.string, (1...63).contains(id.utf8.count),
      let role = json["role"]?.string.flatMap(NodeRole.init), let map = json["map"]?.string,
      let version = json["protocol"]?.integer, let model = json["model"]?.string,
      let epoch = json["epoch"]?.integer, let incarnation = json["incarnation"]?.string,
      incarnation.utf8.count <= 64, model.utf8.count <= 128,
      let arithmetic = json["arithmetic"]?.string, arithmetic.utf8.count <= 128
    else { return nil }
    self.id = id
    self.role = role
    protocolVersion = version
    modelHash = model
    mapHash = map
    self.arithmetic = arithmetic
    self.epoch = epoch
    self.incarnation = incarnation
    isProbe = json["probe"]?.boolean ?? false
  }
}

/// Why a peer is not let in.
package enum HandshakeRefusal: Error, Sendable, Equatable {
  /// The bytes are no message of a handshake, or come out of order.
  case malformed
  /// The proof is wrong: the other side has another cluster key.
  case wrongKey
  /// The peers run different releases.
  case wrongProtocol(own: Int, peer: Int)
  /// The peers have different checkpoints.
  case wrongModel(own: String, peer: String)
  /// The peers' cluster files say different things.
  case wrongMap(own: String, peer: String)
  /// The peers compute with other kernels, or in another precision.
  case wrongArithmetic(own: String, peer: String)
  /// The cluster file has no such node, or with another role.
  case unknownNode(id: String, role: String)
  /// Somebody of that name is here already.
  case duplicate(id: String)
  /// It took longer than allowed.
  case tooSlow(limit: Duration)
  /// Too many attempts from one place.
  case tooMany
  /// The other side refused, and says why.
  case refusedByPeer(String)
}

extension HandshakeRefusal: CustomStringConvertible {
  package var description: String {
    switch self {
    case .malformed: "the bytes are no handshake of swift-step3"
    case .wrongKey:
      "the cluster keys differ; give both processes the same key file"
    case .wrongProtocol(let own, let peer):
      "protocol \(peer) there, \(own) here; run the same release everywhere"
    case .wrongModel(let own, let peer):
      "the models differ (\(peer) there, \(own) here); give both the same checkpoint"
    case .wrongMap(let own, let peer):
      "the cluster files differ (map \(peer) there, \(own) here); give all processes the same file"
    case .wrongArithmetic(let own, let peer):
      "the two sides would compute different bits (\(peer) there, \(own) here); give all processes "
        + "the same --kernels and --dtype, or name \"kernels\" in the cluster file that all "
        + "machines have"
    case .unknownNode(let id, let role):
      "the cluster file has no \(role) node \"\(id)\""
    case .duplicate(let id): "a node \"\(id)\" is connected already"
    case .tooSlow(let limit): "no complete handshake within \(limit)"
    case .tooMany: "too many attempts; try again in a second"
    case .refusedByPeer(let reason): "refused by the peer: \(reason)"
    }
  }
}

/// One handshake, on either side: a state machine fed with payloads and giving payloads.
package struct Handshake: Sendable {
  /// What to do after a message.
  package enum Step: Sendable, Equatable {
    /// Send these bytes and go on.
    case send([UInt8])
    /// Send these bytes, if any; the peer is who it says.
    case accepted(PeerIdentity, send: [UInt8]?)
    /// Send these bytes, if any, and close.
    case refused(HandshakeRefusal, send: [UInt8]?)
  }

  private enum State: Sendable { case start, waitingForWelcome, waitingForConfirm, over }

  private let own: PeerIdentity
  private let key: [UInt8]
  private let admits: @Sendable (PeerIdentity) -> Bool
  private var transcript: [[UInt8]] = []
  private var state = State.start
  private var peer: PeerIdentity?

  /// Largest message of a handshake.
  package static let messageLimit = 4096

  /// A handshake of `own`; `admits` says whether a node of that name and role is expected.
  package init(
    own: PeerIdentity, key: [UInt8], admits: @escaping @Sendable (PeerIdentity) -> Bool
  ) {
    self.own = own
    self.key = key
    self.admits = admits
  }

  /// The caller's first message.
  package mutating func begin() -> [UInt8] {
    precondition(transcript.isEmpty, "a handshake begins once")
    state = .waitingForWelcome
    return sealed([
      "kind": "hello", "peer": own.json,
      "nonce": .string(Authentication.hexadecimal(Authentication.nonce())),
    ])
  }

  /// Takes the peer's next message.
  package mutating func receive(_ message: [UInt8]) -> Step {
    guard state != .over, message.count > Authentication.byteCount,
      message.count <= Self.messageLimit
    else { return refuse(.malformed, tells: false) }
    let proof = Array(message.prefix(Authentication.byteCount))
    let body = Array(message.dropFirst(Authentication.byteCount))
    guard let json = try? JSONValue(parsing: body, depthLimit: 8),
      let kind = json["kind"]?.string
    else { return refuse(.malformed, tells: false) }
    // A refusal is believed without proof: with another key there can be none, and it only ends
    // what would not come about anyway.
    if kind == "refusal" {
      state = .over
      let reason = String((json["reason"]?.string ?? "").unicodeScalars.prefix(300))
      return .refused(.refusedByPeer(reason), send: nil)
    }
    let expected = Authentication.proof(key: key, transcript + [body])
    guard Authentication.areEqual(proof, expected) else { return refuse(.wrongKey) }
    transcript.append(body)
    switch (state, kind) {
    case (.start, "hello"): return welcome(json)
    case (.waitingForWelcome, "welcome"): return confirm(json)
    case (.waitingForConfirm, "confirm"):
      guard let peer else { return refuse(.malformed) }
      state = .over
      return .accepted(peer, send: nil)
    default: return refuse(.malformed)
    }
  }

  private mutating func welcome(_ json: JSONValue) -> Step {
    switch judged(json) {
    case .failure(let refusal): return refuse(refusal)
    case .success(let identity):
      peer = identity
      state = .waitingForConfirm
      return .send(
        sealed([
          "kind": "welcome", "peer": own.json,
          "nonce": .string(Authentication.hexadecimal(Authentication.nonce())),
        ]))
    }
  }

  private mutating func confirm(_ json: JSONValue) -> Step {
    switch judged(json) {
    case .failure(let refusal): return refuse(refusal)
    case .success(let identity):
      state = .over
      return .accepted(identity, send: sealed(["kind": "confirm"]))
    }
  }

  /// Whether the peer fits, and who it is.
  private func judged(_ json: JSONValue) -> Result<PeerIdentity, HandshakeRefusal> {
    guard let nonce = json["nonce"]?.string, nonce.utf8.count == 64,
      let peer = PeerIdentity(json["peer"])
    else { return .failure(.malformed) }
    if peer.protocolVersion != own.protocolVersion {
      return .failure(.wrongProtocol(own: own.protocolVersion, peer: peer.protocolVersion))
    }
    if peer.modelHash != own.modelHash {
      return .failure(.wrongModel(own: own.modelHash, peer: peer.modelHash))
    }
    if peer.mapHash != own.mapHash {
      return .failure(.wrongMap(own: own.mapHash, peer: peer.mapHash))
    }
    if peer.arithmetic != own.arithmetic {
      return .failure(.wrongArithmetic(own: own.arithmetic, peer: peer.arithmetic))
    }
    guard admits(peer) else {
      return .failure(.unknownNode(id: peer.id, role: peer.role.rawValue))
    }
    return .success(peer)
  }

  /// The message that tells a peer why it is refused; for refusals outside a handshake too.
  package static func refusal(_ reason: HandshakeRefusal) -> [UInt8] {
    let json: JSONValue = ["kind": "refusal", "reason": .string("\(reason)")]
    return [UInt8](repeating: 0, count: Authentication.byteCount)
      + Array(json.text(.compact).utf8)
  }

  private mutating func refuse(_ reason: HandshakeRefusal, tells: Bool = true) -> Step {
    state = .over
    return .refused(reason, send: tells ? Self.refusal(reason) : nil)
  }

  /// A message behind its proof; becomes part of what later proofs cover.
  private mutating func sealed(_ json: JSONValue) -> [UInt8] {
    let body = Array(json.text(.compact).utf8)
    transcript.append(body)
    return Authentication.proof(key: key, transcript) + body
  }
}
